import { timingSafeEqual } from 'node:crypto';
import type { Clock, Timer } from '#common/clock.ts';
import { mrcProcedures } from '#proto/generated/xtreemfs/mrc.ts';
import { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { parseAddress } from '#xtreemfs/rpc/address.ts';
import type { RpcClient } from '#xtreemfs/rpc/client.ts';
import { errnoError } from '#xtreemfs/rpc/errors.ts';
import type { RpcServer } from '#xtreemfs/rpc/server.ts';
import type { NumberedView } from '../store/durable-store.ts';
import type { Key, WriteSet } from '../store/kv.ts';
import { decodeEntries, RecordWriter } from '../store/log.ts';
import type { Leader } from './quorum.ts';
import type { Replica } from './replica.ts';

/** Bytes of entries in one answer, about. */
const pageBytes = 2 ** 20;
/** Entries that are read at once while a page is filled. */
const chunkEntries = 512;
/** Members that may fetch at the same time: each keeps old pages of the database alive. */
const viewsMax = 4;
/** A view that nobody asks for is closed. */
const idleMs = 60_000;

interface OpenView {
  readonly view: NumberedView;
  timer: Timer;
}

/** Gives the whole database to members that lack what the log begins with. Only the leader does. */
export function serveDatabase(server: RpcServer, replica: Replica, token: string, clock: Clock): void {
  const views = new Map<number, OpenView>();
  let lastId = 0;
  const close = (id: number): void => {
    views.get(id)?.timer.cancel();
    views.get(id)?.view.close();
    views.delete(id);
  };
  const linger = (id: number): Timer => clock.after(idleMs, () => close(id), { unref: true });
  server.handle(mrcProcedures.readDatabase, async (_context, request) => {
    if (!replica.isLeading || !isSame(request.token, token)) {
      throw errnoError(
        PosixErrno.EACCES,
        'token: is not that of the leader; only members of this MRC may have the database',
      );
    }
    let id = request.view;
    if (id === 0) {
      if (views.size >= viewsMax) throw errnoError(PosixErrno.EAGAIN, `${viewsMax} members fetch the database already`);
      id = ++lastId;
      views.set(id, { view: await replica.store.view(), timer: linger(id) });
    }
    const open = views.get(id);
    if (open === undefined) throw errnoError(PosixErrno.ENOENT, `view: ${id} is not open any more; begin anew`);
    open.timer.cancel();
    open.timer = linger(id);
    const { data, isEnd } = fillPage(open.view, request.after);
    const { number } = open.view;
    if (isEnd) close(id);
    return { response: { view: id, number, isEnd }, data };
  });
}

function fillPage(view: NumberedView, after: Uint8Array | undefined): { data: Buffer; isEnd: boolean } {
  const writer = new RecordWriter();
  let last: Key | undefined = after === undefined ? undefined : Buffer.from(after).toString('latin1');
  while (writer.sizeBytes < pageBytes) {
    const entries = view.scan({ prefix: '', limit: chunkEntries, ...(last === undefined ? {} : { after: last }) });
    for (const { key, value } of entries) writer.add(key, value);
    last = entries.at(-1)?.key ?? last;
    if (entries.length < chunkEntries) return { data: writer.entries(), isEnd: true };
  }
  return { data: writer.entries(), isEnd: false };
}

function isSame(given: string, wanted: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(wanted)];
  return a.length === b.length && timingSafeEqual(a, b);
}

/**
 * Fetches the whole database from the leader.
 * @param take - gets the entries, page after page.
 * @returns the number of the last record of the log that they have.
 */
export async function fetchDatabase(
  client: RpcClient,
  leader: Leader,
  take: (entries: WriteSet) => Promise<void>,
): Promise<number> {
  const address = parseAddress('leader', leader.address);
  let [view, after]: [number, Buffer | undefined] = [0, undefined];
  for (;;) {
    const { response, data } = await client.call(address, mrcProcedures.readDatabase, {
      token: leader.token,
      view,
      after,
    });
    const entries = decodeEntries(data);
    await take(entries);
    const last = [...entries.keys()].at(-1);
    if (response.isEnd) return response.number;
    view = response.view;
    if (last !== undefined) after = Buffer.from(last, 'latin1');
  }
}
