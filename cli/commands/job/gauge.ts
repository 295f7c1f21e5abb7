/** What a running task uses, read in its container as its owner would: the kernel's own account of its control group. */
import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { JobApi, PodPlace } from '../../api/job-api.ts';
import { runScript } from './script.ts';

/** One reading. */
export interface Sample {
  /** Seconds since the node started. */
  readonly at: number;
  /** CPU seconds used so far. */
  readonly cpuSeconds: number;
  /** Memory in use without file caches that can be dropped, as the kubelet counts the working set. Bytes. */
  readonly memoryBytes: number;
}

/** What a task uses now. */
export interface Usage {
  /** Processors, between the last two readings. */
  readonly cpu: number;
  readonly memoryBytes: number;
}

/** Between two readings, seconds. */
export const sampleSeconds = 2;
/** Where the container sees its control group; nodes have version 2 or, older ones, version 1. */
const group = '/sys/fs/cgroup';
const version2 = `cat /proc/uptime ${group}/cpu.stat ${group}/memory.current ${group}/memory.stat`;
const version1 = [
  `cat /proc/uptime ${group}/memory/memory.stat ${group}/memory/memory.usage_in_bytes`,
  `echo usage_nsec $(cat ${group}/cpuacct/cpuacct.usage)`,
].join(' && ');
/** A reading for each line that comes in; it ends with the connection. */
const script = [
  `if [ -e ${group}/cpu.stat ]; then look() { ${version2}; }; else look() { ${version1}; }; fi`,
  'while read -r line; do look && echo . || exit 1; done',
].join('; ');
/** Of what a container says; a reading is about 2,000 characters. */
const textMax = 65_536;
const wordsMax = 500;

/**
 * Reads what was written about one control group.
 * Source: Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/; proc_uptime(5).
 * @returns undefined when it is not that.
 */
export function parseSample(text: string): Sample | undefined {
  const lines = text.trim().split('\n');
  const numberOf = (name: string): number | undefined => {
    const line = lines.find((one) => one.startsWith(`${name} `));
    const value = Number(line?.slice(name.length + 1));
    return line === undefined || !Number.isFinite(value) ? undefined : value;
  };
  const at = Number(lines[0]?.split(' ')[0]);
  const micros = numberOf('usage_usec') ?? (numberOf('usage_nsec') ?? NaN) / 1000;
  const memory = Number(lines.find((line) => /^\d+$/.test(line)) ?? NaN);
  if (!(at > 0) || !Number.isFinite(micros) || !Number.isFinite(memory)) return undefined;
  const memoryBytes = Math.max(0, memory - (numberOf('total_inactive_file') ?? numberOf('inactive_file') ?? 0));
  return { at, cpuSeconds: micros / 1e6, memoryBytes };
}

/** Reads one task again and again until it is stopped. */
export class Gauge {
  /** Why there are no readings. */
  problem: string | undefined;
  private readonly ending = new AbortController();
  private readonly samples: Sample[] = [];
  private text = '';

  constructor(api: JobApi, clock: Clock, pod: PodPlace) {
    const streams = { stdin: this.pace(clock), onStdout: (chunk: Buffer) => this.take(chunk.toString('latin1')) };
    runScript(api, pod, [script], streams, this.ending.signal).then(
      ({ words }) => (this.problem = words.slice(0, wordsMax) || 'the shell ended'),
      (error: unknown) => (this.problem = describeError(error).slice(0, wordsMax)),
    );
  }

  /** What is used; undefined before the second reading. */
  get usage(): Usage | undefined {
    const [before, last] = this.samples;
    if (before === undefined || last === undefined || last.at <= before.at) return undefined;
    const cpu = Math.max(0, (last.cpuSeconds - before.cpuSeconds) / (last.at - before.at));
    return { cpu, memoryBytes: last.memoryBytes };
  }

  /** Whether there is nothing more to wait for. */
  get isKnown(): boolean {
    return this.problem !== undefined || this.usage !== undefined;
  }

  /** Ends the readings. */
  stop(): void {
    this.ending.abort(new Error('Nobody looks any more'));
  }

  private async *pace(clock: Clock): AsyncGenerator<Buffer> {
    const { signal } = this.ending;
    while (!signal.aborted) {
      yield Buffer.from('\n');
      await clock.sleep(sampleSeconds * 1000, signal).catch(() => undefined);
    }
  }

  private take(chunk: string): void {
    this.text += chunk;
    for (let end = this.text.indexOf('\n.\n'); end >= 0; end = this.text.indexOf('\n.\n')) {
      const sample = parseSample(this.text.slice(0, end));
      this.text = this.text.slice(end + 3);
      if (sample === undefined) continue;
      this.samples.push(sample);
      if (this.samples.length > 2) this.samples.shift();
    }
    if (this.text.length > textMax) this.text = '';
  }
}
