import { statfs } from 'node:fs/promises';
import { status } from '@grpc/grpc-js';
import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { NodeGetVolumeStatsResponse } from '#proto/csi/wire.ts';
import { listMounts } from '#xtreemfs/fuse/mount.ts';
import { parseSource } from '../holder/protocol.ts';
import { CsiError } from './errors.ts';

/** A file system that does not answer is told as such after this time. */
const answerMs = 10_000;
/** Questions under way: each holds a thread until it is answered. */
const waitingMax = 8;

type Usage = NodeGetVolumeStatsResponse['usage'];

/** How full mounted volumes are. A mount that does not answer is asked once, and not again until it has. */
export class VolumeStats {
  private readonly clock: Clock;
  private readonly waiting = new Map<string, Promise<Usage>>();

  constructor(clock: Clock) {
    this.clock = clock;
  }

  /** @throws {CsiError} NOT_FOUND when no volume is mounted there. */
  check(path: string): void {
    const mount = listMounts().findLast(({ mountPoint }) => mountPoint === path);
    if (mount === undefined || parseSource(mount.source) === undefined) {
      throw new CsiError(status.NOT_FOUND, `no volume is mounted at ${path}`);
    }
  }

  /** Sizes, and whether the mount works. */
  async of(path: string): Promise<NodeGetVolumeStatsResponse> {
    this.check(path);
    const asking = this.waiting.get(path) ?? this.ask(path);
    if (asking === undefined) return abnormal('too many volumes do not answer');
    try {
      const usage = await Promise.race([asking, this.clock.sleep(answerMs).then(() => undefined)]);
      if (usage === undefined) return abnormal(`its servers did not answer within ${answerMs / 1000} s`);
      return { usage, volumeCondition: { abnormal: false, message: 'it answers' } };
    } catch (error) {
      return abnormal(`the mount is broken: ${describeError(error)}`);
    }
  }

  private ask(path: string): Promise<Usage> | undefined {
    if (this.waiting.size >= waitingMax) return undefined;
    const asking = usageOf(path).finally(() => this.waiting.delete(path));
    asking.catch(() => undefined);
    this.waiting.set(path, asking);
    return asking;
  }
}

async function usageOf(path: string): Promise<Usage> {
  const { bsize, blocks, bfree, bavail, files, ffree } = await statfs(path);
  return [
    { unit: 'BYTES', total: blocks * bsize, used: (blocks - bfree) * bsize, available: bavail * bsize },
    { unit: 'INODES', total: files, used: Math.max(0, files - ffree), available: ffree },
  ];
}

function abnormal(message: string): NodeGetVolumeStatsResponse {
  return { usage: [], volumeCondition: { abnormal: true, message } };
}
