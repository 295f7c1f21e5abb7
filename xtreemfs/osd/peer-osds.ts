import type { Procedure } from '#proto/wire.ts';

/** Calls other OSDs by UUID. */
export interface PeerOsds {
  /**
   * Calls a procedure of the OSD with this UUID, or at this `host:port`.
   * @param timeoutMs - 15 seconds by default.
   * @throws {RpcError} the peer's error, or IO_ERROR when it can't be reached.
   */
  call<Request, Response>(
    osdUuid: string,
    procedure: Procedure<Request, Response>,
    request: Request,
    data?: Buffer,
    timeoutMs?: number,
  ): Promise<{ response: Response; data: Buffer }>;
}

/**
 * Runs `task` for every OSD at the same time and waits for all, so that nothing goes on behind the caller's back.
 * @throws the first failure, after all have ended.
 */
export async function forAllOsds<T>(osdUuids: readonly string[], task: (osdUuid: string) => Promise<T>): Promise<T[]> {
  const outcomes = await Promise.allSettled(osdUuids.map(task));
  return outcomes.map((outcome) => {
    if (outcome.status === 'rejected') throw outcome.reason as Error;
    return outcome.value;
  });
}
