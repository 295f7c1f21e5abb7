import { mrcProcedures } from '#proto/generated/xtreemfs/mrc.ts';
import { ErrorType, PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import type { Procedure } from '#proto/wire.ts';
import { errnoError, redirectError, RpcError } from '#xtreemfs/rpc/errors.ts';
import type { RpcServer } from '#xtreemfs/rpc/server.ts';
import type { Replica } from './replica.ts';

/**
 * How long a call waits for the members to have a leader: a fail-over ends within, and no client has given the call up by
 * then (upstream's: after 15 s, and it asks again only 15 s later).
 */
const patienceMs = 10_000;

/** Tools call these by address and know no DIR: upstream answers them with an address, too (protocol reference, 2.3). */
const byAddress = new Set<Procedure<never, unknown>>(
  [
    mrcProcedures.mkvol,
    mrcProcedures.rmvol,
    mrcProcedures.lsvol,
    mrcProcedures.dumpDatabase,
    mrcProcedures.restoreDatabase,
    mrcProcedures.checkpoint,
    mrcProcedures.internalDebug,
  ].map((procedure) => procedure as Procedure<never, unknown>),
);

/** Sends callers to the leader, while this process does not lead; the procedures of the MRC replace all of this then. */
export function redirectToLeader(server: RpcServer, replica: () => Replica | undefined): void {
  for (const procedure of Object.values(mrcProcedures)) {
    if (procedure === mrcProcedures.readDatabase) continue;
    server.handle(procedure, async () => {
      if (procedure === mrcProcedures.shutdown) {
        throw errnoError(PosixErrno.EINVAL, 'This MRC does not lead: end its process instead');
      }
      const leader = await replica()?.findLeader(patienceMs);
      if (leader === undefined) throw nobodyLeads();
      throw redirectError(byAddress.has(procedure as Procedure<never, unknown>) ? leader.address : leader.uuid);
    });
  }
}

/** Clients ask the next MRC then, and this one again. */
function nobodyLeads(): RpcError {
  const details = { errorType: ErrorType.INTERNAL_SERVER_ERROR, posixErrno: PosixErrno.EIO };
  return new RpcError('No MRC leads at the moment: ask again', details);
}
