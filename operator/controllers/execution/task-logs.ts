/** Reads what tasks wrote, from the kubelets of their pods through the API server. */
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import { taskContainerName } from '#crds/execution.ts';
import { keptLogBounds } from '#crds/kept-logs.ts';
import { pods } from '#runtime/builtin.ts';
import { objectPath, resourceOf } from '#runtime/kind.ts';
import type { Transport } from '#runtime/transport.ts';
import type { ObjectKey } from '#runtime/types.ts';

/** Where the ends of logs come from. */
export interface TaskLogs {
  /** The last words of the task of a pod, as far as they come in time; undefined when there are none to be had. */
  tail(pod: ObjectKey, signal: AbortSignal): Promise<string | undefined>;
}

/** Lines asked for. A kubelet cuts lines at 16 KiB, so that it never sends more than 16 MiB for this. */
const linesMax = 1_024;

/** {@link TaskLogs} of real kubelets. */
export class KubeletLogs implements TaskLogs {
  private readonly transport: Transport;
  private readonly log: Logger;

  constructor(transport: Transport, log: Logger) {
    this.transport = transport;
    this.log = log;
  }

  async tail(pod: ObjectKey, signal: AbortSignal): Promise<string | undefined> {
    const tail = new Tail(keptLogBounds.taskMaxBytes);
    try {
      await this.transport.bytes(
        {
          ...{
            method: 'GET',
            path: `${objectPath(pods, pod, 'log')}?container=${taskContainerName}&tailLines=${linesMax}`,
          },
          ...{ priority: 'background', isIdempotent: true, verb: 'get', resource: `${resourceOf(pods)}/log`, signal },
        },
        (chunk) => tail.add(chunk),
      );
    } catch (error) {
      this.log.debug('The log of a task was not read to its end', { Pod: pod, error: describeError(error) });
      if (tail.isEmpty) return undefined;
    }
    return tail.text();
  }
}

/** The last bytes of a stream. */
class Tail {
  private readonly bytesMax: number;
  private chunks: Buffer[] = [];
  private bytes = 0;

  constructor(bytesMax: number) {
    this.bytesMax = bytesMax;
  }

  get isEmpty(): boolean {
    return this.bytes === 0;
  }

  add(chunk: Buffer): void {
    this.chunks.push(chunk);
    this.bytes += chunk.length;
    // One byte more than is kept: so that it is seen later that something was cut.
    while (this.bytes - (this.chunks[0]?.length ?? 0) > this.bytesMax) this.bytes -= this.chunks.shift()?.length ?? 0;
  }

  text(): string {
    return Buffer.concat(this.chunks).toString('utf8');
  }
}
