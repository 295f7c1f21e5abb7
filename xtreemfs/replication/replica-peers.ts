import type { Procedure } from '#proto/wire.ts';

/** Calls the OSDs that hold the other replicas. */
export interface ReplicaPeers {
  /**
   * @param osdUuid - UUID of the OSD.
   * @throws {RpcError} what the peer answered, or IO_ERROR when it cannot be reached in time.
   */
  call<Request, Response>(
    osdUuid: string,
    procedure: Procedure<Request, Response>,
    request: Request,
    data?: Buffer,
  ): Promise<{ response: Response; data: Buffer }>;
}

/**
 * Runs `task` for every OSD and resolves as soon as `needed` have succeeded; the others go on by themselves.
 * @returns the successes so far, by UUID.
 * @throws the last failure once so many have failed that `needed` cannot be reached.
 */
export async function quorumOf<T>(
  osdUuids: readonly string[],
  needed: number,
  task: (osdUuid: string) => Promise<T>,
): Promise<Map<string, T>> {
  const answers = new Map<string, T>();
  if (needed <= 0 && osdUuids.length === 0) return answers;
  return new Promise((resolve, reject) => {
    let failures = 0;
    for (const uuid of osdUuids) {
      task(uuid).then(
        (answer) => {
          answers.set(uuid, answer);
          if (answers.size === needed) resolve(new Map(answers));
        },
        (error: unknown) => {
          if (++failures > osdUuids.length - needed) reject(error);
        },
      );
    }
    if (needed <= 0) resolve(answers);
  });
}
