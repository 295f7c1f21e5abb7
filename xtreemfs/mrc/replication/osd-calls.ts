import type { FileCredentials } from '#proto/generated/xtreemfs/global-types.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import type { AuthoritativeReplicaState, XlocSetInvalidateResponse } from '#proto/generated/xtreemfs/osd.ts';
import { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { osdSyncLocalProcedure } from '../../osd/extensions.ts';
import type { RpcClient } from '../../rpc/client.ts';
import { isErrno } from '../../rpc/errors.ts';
import type { AddressResolver } from '../../rpc/retry.ts';

/** What the MRC asks of OSDs while it changes a file's replicas, and when a file ends. Each call is one attempt. */
export interface OsdCalls {
  /** Ends the old view at an OSD (procedure 81). */
  invalidate(osd: string, creds: FileCredentials): Promise<XlocSetInvalidateResponse>;
  /** Gives an invalidated replica the state to fetch (82). @returns whether it has it. */
  install(osd: string, creds: FileCredentials, state: AuthoritativeReplicaState): Promise<boolean>;
  /** Whether a replica has fetched the state (83). */
  isInstalled(osd: string, creds: FileCredentials, state: AuthoritativeReplicaState): Promise<boolean>;
  /** How far a replica is with the state that it was given (83). */
  installing(
    osd: string,
    creds: FileCredentials,
    state: AuthoritativeReplicaState,
  ): Promise<'running' | 'complete' | 'failed'>;
  /** Makes what one OSD holds of a file durable, and has it take a newer replica set (1002, ours). */
  sync(osd: string, creds: FileCredentials): Promise<void>;
  /** Reads one byte of an object, so that a read-only replica begins to fill itself (10). */
  touch(osd: string, creds: FileCredentials, objectNumber: number): Promise<void>;
  /** Has an OSD ask which snapshots a volume has; done when changes keep what they show (1003, ours). */
  lookAtSnapshots(osd: string, volumeId: string): Promise<void>;
  /** Deletes the objects of one replica, whose first OSD this is (11); fine when they are gone. */
  unlink(osd: string, creds: FileCredentials): Promise<void>;
}

/** `OsdCalls` over the network. */
export function rpcOsdCalls(client: RpcClient, resolver: AddressResolver): OsdCalls {
  const fileIdOf = (creds: FileCredentials): string => creds.xcap.fileId;
  return {
    invalidate: async (osd, creds) => {
      const request = { fileCredentials: creds, fileId: fileIdOf(creds) };
      return (await client.call(await resolver.resolve(osd), osdProcedures.xlocSetInvalidate, request)).response;
    },
    install: async (osd, creds, state) => {
      const request = { fileCredentials: creds, fileId: fileIdOf(creds), state };
      const address = await resolver.resolve(osd);
      return (await client.call(address, osdProcedures.rwrAuthStateInvalidated, request)).response.complete;
    },
    isInstalled: async (osd, creds, state) => {
      const request = { fileCredentials: creds, fileId: fileIdOf(creds), state };
      return (await client.call(await resolver.resolve(osd), osdProcedures.rwrResetStatus, request)).response.complete;
    },
    installing: async (osd, creds, state) => {
      const request = { fileCredentials: creds, fileId: fileIdOf(creds), state };
      const { response } = await client.call(await resolver.resolve(osd), osdProcedures.rwrResetStatus, request);
      if (response.complete) return 'complete';
      return response.running ? 'running' : 'failed';
    },
    sync: async (osd, creds) => {
      const request = { fileCredentials: creds, fileId: fileIdOf(creds) };
      await client.call(await resolver.resolve(osd), osdSyncLocalProcedure, request);
    },
    touch: async (osd, creds, objectNumber) => {
      await client.call(await resolver.resolve(osd), osdProcedures.read, {
        fileCredentials: creds,
        fileId: fileIdOf(creds),
        objectNumber,
        objectVersion: 0,
        offset: 0,
        length: 1,
      });
    },
    lookAtSnapshots: async (osd, volumeId) => {
      await client.call(await resolver.resolve(osd), osdProcedures.lookAtSnapshots, { volumeId });
    },
    unlink: async (osd, creds) => {
      const request = { fileCredentials: creds, fileId: fileIdOf(creds) };
      try {
        await client.call(await resolver.resolve(osd), osdProcedures.unlink, request);
      } catch (error) {
        if (!isErrno(error, PosixErrno.ENOENT)) throw error;
      }
    },
  };
}
