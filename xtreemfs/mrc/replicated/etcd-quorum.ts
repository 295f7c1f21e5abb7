import { EtcdLeaseInvalidError, type Etcd3 } from 'etcd3';
import { etcdClient, type EtcdOptions } from '#xtreemfs/service/etcd.ts';
import {
  DeposedError,
  type Leader,
  type LoggedRecord,
  type Member,
  type Quorum,
  type QuorumState,
  type Term,
} from './quorum.ts';

/** How a quorum in etcd is set up. */
export interface EtcdQuorumOptions extends EtcdOptions {
  /** Put before every key: one prefix for each replicated MRC. */
  readonly prefix: string;
}

/** Bytes of one key's value: etcd refuses requests beyond 1.5 MiB. */
const pieceBytesMax = 2 ** 20;
/** Pieces that one read asks for. */
const piecesPerRead = 32;
/** A piece begins with this when more of its record follow. */
const moreFollow = 1;
/** How long a renewal may take: the next try may reach another member of etcd. */
const renewalMs = 1_000;

type Kv = Etcd3['kv'];
type Request = Parameters<Kv['txn']>[0];
type Compare = NonNullable<Request['compare']>[number];
type Operation = NonNullable<Request['success']>[number];

/**
 * The log and the leadership in etcd. A record is one key or, when it is large, several, of which the last one makes
 * it whole. The leader's key hangs on a lease, and each of its writes is a transaction on the revision that made the
 * key: etcd itself refuses what a deposed leader still sends.
 */
export class EtcdQuorum implements Quorum {
  private readonly client: Etcd3;
  private readonly keys: Keys;

  constructor(options: EtcdQuorumOptions) {
    this.client = etcdClient(options);
    this.keys = new Keys(options.prefix);
  }

  async state(): Promise<QuorumState> {
    const { keys } = this;
    const { responses } = await this.client.kv.txn({
      success: [
        { request_range: { key: keys.history } },
        { request_range: { key: keys.leader } },
        { request_range: { ...keys.logAfter(0), limit: 1, keys_only: true } },
        { request_range: keys.members },
      ],
    });
    const [history, leader, first, members] = responses.map((one) => one.response_range.kvs);
    return {
      history: history?.[0]?.value.toString(),
      leader: leader?.[0] === undefined ? undefined : (JSON.parse(leader[0].value.toString()) as Leader),
      first: first?.[0] === undefined ? undefined : keys.numberOf(first[0].key).number,
      members: (members ?? []).map(({ value }) => JSON.parse(value.toString()) as Member),
    };
  }

  async read(after: number): Promise<LoggedRecord[]> {
    const records: LoggedRecord[] = [];
    let from = this.keys.logAfter(after);
    let parts: Buffer[] = [];
    for (;;) {
      const { kvs, more } = await this.client.kv.range({ ...from, limit: piecesPerRead, sort_order: 'Ascend' });
      for (const { key, value } of kvs) {
        const { number, piece } = this.keys.numberOf(key);
        // Behind a whole record may lie pieces that an earlier leader did not finish.
        if (number === records.at(-1)?.number) continue;
        if (piece === 0) parts = [];
        parts.push(value.subarray(1));
        if (value[0] === moreFollow) continue;
        records.push({ number, bytes: parts.length === 1 ? (parts[0] ?? Buffer.alloc(0)) : Buffer.concat(parts) });
      }
      const last = kvs.at(-1);
      if (records.length > 0 || !more || last === undefined) return records;
      from = { ...from, key: Buffer.concat([last.key, Buffer.alloc(1)]) };
    }
  }

  async found(history: string): Promise<string> {
    const key = this.keys.history;
    const { succeeded, responses } = await this.client.kv.txn({
      compare: [isMissing(key)],
      success: [{ request_put: { key, value: Buffer.from(history) } }],
      failure: [{ request_range: { key } }],
    });
    return succeeded ? history : (responses[0]?.response_range.kvs[0]?.value.toString() ?? history);
  }

  async report(member: Member): Promise<void> {
    await this.client.kv.put({ key: this.keys.member(member.uuid), value: Buffer.from(JSON.stringify(member)) });
  }

  async campaign(leader: Leader, termMs: number): Promise<Term | undefined> {
    const lease = this.client.lease(termMs / 1000, { autoKeepAlive: false });
    const id = await lease.grant();
    const key = this.keys.leader;
    const { succeeded, header } = await this.client.kv.txn({
      compare: [isMissing(key)],
      success: [{ request_put: { key, value: Buffer.from(JSON.stringify(leader)), lease: id } }],
    });
    if (!succeeded) {
      await lease.revoke();
      return undefined;
    }
    return new EtcdTerm(this.client, this.keys, lease, header.revision);
  }

  close(): void {
    this.client.close();
  }
}

/** A term: the lease, and the revision that made the leader's key. */
class EtcdTerm implements Term {
  private readonly client: Etcd3;
  private readonly keys: Keys;
  private readonly lease: ReturnType<Etcd3['lease']>;
  private readonly revision: string;
  /** Revision of the trim before: history up to there is of no use to anybody any more. */
  private trimmedAt: string | undefined;

  constructor(client: Etcd3, keys: Keys, lease: ReturnType<Etcd3['lease']>, revision: string) {
    this.client = client;
    this.keys = keys;
    this.lease = lease;
    this.revision = revision;
  }

  async renew(): Promise<void> {
    try {
      await this.lease.keepaliveOnce({ deadline: Date.now() + renewalMs });
    } catch (error) {
      if (error instanceof EtcdLeaseInvalidError) throw new DeposedError('The lease has expired', { cause: error });
      throw error;
    }
  }

  async append(number: number, bytes: Buffer): Promise<void> {
    const pieces = Math.max(1, Math.ceil(bytes.length / pieceBytesMax));
    for (let piece = 0; piece < pieces; piece++) {
      const part = bytes.subarray(piece * pieceBytesMax, (piece + 1) * pieceBytesMax);
      const value = Buffer.concat([Buffer.of(piece < pieces - 1 ? moreFollow : 0), part]);
      await this.fenced({ request_put: { key: this.keys.piece(number, piece), value } });
    }
  }

  async trim(through: number): Promise<void> {
    const { key } = this.keys.logAfter(0);
    const revision = await this.fenced({ request_delete_range: { key, range_end: this.keys.piece(through + 1, 0) } });
    // etcd keeps what is deleted until it is compacted, and stops to take anything when its quota is used up.
    if (this.trimmedAt !== undefined) await this.client.kv.compact({ revision: this.trimmedAt }).catch(() => undefined);
    this.trimmedAt = revision;
  }

  async resign(): Promise<void> {
    await this.lease.revoke();
  }

  private async fenced(operation: Operation): Promise<string> {
    const { succeeded, header } = await this.client.kv.txn({
      compare: [{ key: this.keys.leader, target: 'Create', result: 'Equal', create_revision: this.revision }],
      success: [operation],
    });
    if (!succeeded) throw new DeposedError('etcd refused a write: this process does not lead any more');
    return header.revision;
  }
}

/** Names in etcd. Numbers have a fixed length, so that the order of keys is theirs. */
class Keys {
  readonly history: Buffer;
  readonly leader: Buffer;
  readonly members: { readonly key: Buffer; readonly range_end: Buffer };
  private readonly prefix: string;

  constructor(prefix: string) {
    this.prefix = prefix;
    this.history = Buffer.from(`${prefix}/history`);
    this.leader = Buffer.from(`${prefix}/leader`);
    this.members = { key: Buffer.from(`${prefix}/members/`), range_end: Buffer.from(`${prefix}/members0`) };
  }

  member(uuid: string): Buffer {
    return Buffer.from(`${this.prefix}/members/${uuid}`);
  }

  piece(number: number, piece: number): Buffer {
    return Buffer.from(
      `${this.prefix}/log/${number.toString(16).padStart(14, '0')}/${piece.toString(16).padStart(4, '0')}`,
    );
  }

  logAfter(number: number): { readonly key: Buffer; readonly range_end: Buffer } {
    return { key: this.piece(number + 1, 0), range_end: Buffer.from(`${this.prefix}/log0`) };
  }

  numberOf(key: Buffer): { number: number; piece: number } {
    const [number = '', piece = ''] = key.toString().slice(-19).split('/');
    return { number: Number.parseInt(number, 16), piece: Number.parseInt(piece, 16) };
  }
}

function isMissing(key: Buffer): Compare {
  return { key, target: 'Create', result: 'Equal', create_revision: 0 };
}
