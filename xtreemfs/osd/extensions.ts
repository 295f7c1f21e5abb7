import { internalGetFileSizeRequestCodec, type InternalGetFileSizeRequest } from '#proto/generated/xtreemfs/osd.ts';
import { emptyResponseCodec, type EmptyResponse } from '#proto/generated/xtreemfs/rpc.ts';
import type { Procedure } from '#proto/wire.ts';

/**
 * Our own addition to the OSD interface: makes everything that this OSD acknowledged for a file durable. A client calls
 * it on fsync for each OSD that it wrote to; a server without it answers INVALID_PROC_ID, and upstream's behaviour
 * (fsync means «sent to the OSD») is what remains. Upstream has no such call.
 */
export const osdSyncProcedure = {
  interfaceId: 30001,
  procId: 1001,
  name: 'sync',
  request: internalGetFileSizeRequestCodec,
  response: emptyResponseCodec,
  hasDataIn: false,
  hasDataOut: false,
} satisfies Procedure<InternalGetFileSizeRequest, EmptyResponse>;

/** The same for this OSD alone: what the primary of a replicated file calls at its backups. */
export const osdSyncLocalProcedure = {
  ...osdSyncProcedure,
  procId: 1002,
  name: 'sync_local',
} satisfies Procedure<InternalGetFileSizeRequest, EmptyResponse>;
