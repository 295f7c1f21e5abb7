import type { Clock } from '#common/clock.ts';
import type { FileCredentials } from '#proto/generated/xtreemfs/global-types.ts';
import type { ReplicaStatus } from '#proto/generated/xtreemfs/osd.ts';
import { PosixError } from '../core/errno.ts';
import type { ReplicaRecord, XlocRecord } from '../core/records.ts';
import { authoritativeState } from './authoritative-state.ts';
import type { OsdCalls } from './osd-calls.ts';

/** One place of a file that goes from one OSD to another. */
export interface StripeMove {
  readonly from: string;
  readonly to: string;
  /** The replica as it will be. */
  readonly replica: ReplicaRecord;
}

/** What {@link copyStripes} needs. */
export interface StripeCopyOptions {
  readonly osds: OsdCalls;
  readonly clock: Clock;
  /** Longest pause between two questions whether a copy is done, milliseconds. */
  readonly pollMs: number;
  /** Credentials of the MRC for a replica set. */
  readonly credentials: (xlocs: XlocRecord) => Promise<FileCredentials>;
  /** What deletes all that an OSD has of the file, by OSD that gets a copy. */
  readonly deletions: ReadonlyMap<string, FileCredentials>;
}

const firstPollMs = 5;

/** The places that differ between two replica sets, which have the same replicas otherwise. */
export function movesBetween(from: XlocRecord, to: XlocRecord): StripeMove[] {
  return to.replicas.flatMap((replica, at) =>
    replica.osds.flatMap((osd, index) => {
      const before = from.replicas[at]?.osds[index];
      return before === undefined || before === osd ? [] : [{ from: before, to: osd, replica }];
    }),
  );
}

/** OSDs that must refuse the old set before a copy: all that take writes, and those that are left. */
export function osdsToInvalidate(from: XlocRecord, moves: readonly StripeMove[]): string[] {
  if (from.policy === 'ronly') return moves.map((move) => move.from);
  return from.replicas.flatMap((replica) => replica.osds);
}

/**
 * Copies what the OSDs that are left hold to those that come. The old set has ended: nothing is written meanwhile. Each new OSD first
 * forgets what it may have had of the file long ago, and remembers that requests with the old set are not for it.
 * @param statuses - what each OSD that is left holds.
 * @throws when a copy is not complete.
 */
export async function copyStripes(
  options: StripeCopyOptions,
  from: XlocRecord,
  moves: readonly StripeMove[],
  statuses: ReadonlyMap<string, ReplicaStatus>,
): Promise<void> {
  const { osds } = options;
  for (const move of moves) {
    const status = statuses.get(move.from);
    if (status === undefined) throw new PosixError('EIO', `OSD ${move.from} does not tell what it holds`);
    const deletion = options.deletions.get(move.to);
    if (deletion !== undefined) await osds.unlink(move.to, deletion);
    const creds = await options.credentials({ ...from, replicas: [...from.replicas, move.replica] });
    await osds.invalidate(move.to, creds);
    const state = authoritativeState(new Map([[move.from, status]]));
    await osds.install(move.to, creds, state);
    for (let pauseMs = firstPollMs; ; pauseMs = Math.min(2 * pauseMs, options.pollMs)) {
      const progress = await osds.installing(move.to, creds, state);
      if (progress === 'complete') break;
      if (progress === 'failed') throw new PosixError('EIO', `OSD ${move.to} could not copy from ${move.from}`);
      await options.clock.sleep(pauseMs);
    }
  }
}
