/** Sees every process of the sites from outside, whatever their control planes believe: how many copies of a task run, and since when. */
import { readFileSync } from 'node:fs';
import { groupOf } from '#sites/instance.ts';

const lookEveryMs = 100;
/** Ticks of a second in `/proc/PID/stat`. */
const ticksPerSecond = 100;

/** One run of a task as its processes show it; times are milliseconds since the Unix epoch. */
export interface Copy {
  readonly job: string;
  readonly index: string;
  readonly run: string;
  readonly node: string;
  readonly startedAt: number;
  lastSeenAt: number;
}

/** Looks at all processes of an instance several times a second, from {@link start} to {@link stop}. */
export class Witness {
  /** Longest time between two looks, milliseconds: what is shorter may go unseen. */
  longestPauseMs = 0;
  private readonly instance: string;
  private readonly copies = new Map<string, Copy>();
  /** By process id and start: which run it belongs to. */
  private readonly known = new Map<string, Copy | undefined>();
  private lookedAt = Date.now();
  private timer: NodeJS.Timeout | undefined;

  constructor(instance: string) {
    this.instance = instance;
  }

  start(): void {
    this.timer = setInterval(() => this.look(), lookEveryMs);
  }

  stop(): void {
    clearInterval(this.timer);
  }

  /** Runs of a task, first started first. */
  copiesOf(job: string, index = 0): Copy[] {
    return [...this.copies.values()]
      .filter((copy) => copy.job === job && copy.index === String(index))
      .sort((a, b) => a.startedAt - b.startedAt);
  }

  /** Runs of a task that are there now. */
  runningCopiesOf(job: string, index = 0): Copy[] {
    return this.copiesOf(job, index).filter(({ lastSeenAt }) => lastSeenAt === this.lookedAt);
  }

  /** Sentences on runs of one task that were there at the same time. */
  doubled(): string[] {
    const all = [...this.copies.values()].sort((a, b) => a.startedAt - b.startedAt);
    return all.flatMap((later, at) =>
      all
        .slice(0, at)
        .filter(
          ({ job, index, lastSeenAt }) => job === later.job && index === later.index && lastSeenAt > later.startedAt,
        )
        .map(
          (earlier) =>
            `task ${later.index} of ${later.job} ran on ${earlier.node} and ${later.node} for ${Math.min(earlier.lastSeenAt, later.lastSeenAt) - later.startedAt} ms`,
        ),
    );
  }

  private look(): void {
    const now = Date.now();
    this.longestPauseMs = Math.max(this.longestPauseMs, now - this.lookedAt);
    this.lookedAt = now;
    for (const pid of groupOf(this.instance).pids()) {
      const copy = this.copyOf(pid, now);
      if (copy !== undefined) copy.lastSeenAt = now;
    }
  }

  private copyOf(pid: number, now: number): Copy | undefined {
    try {
      // After the name in brackets, which may have blanks: state is the first word, the start the 20th.
      const words = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ') ?? [];
      const [state = '', startTicks = ''] = [words[0], words[19]];
      // It has ended, and nobody has asked for its exit status yet.
      if (state === 'Z' || state === 'X') return undefined;
      const key = `${pid} ${startTicks}`;
      const known = this.known.get(key);
      if (known !== undefined) return known;
      const found = this.read(pid, Number(startTicks) / ticksPerSecond, now);
      // Until it has become the program of the task it has another environment.
      if (found !== undefined) this.known.set(key, found);
      return found;
    } catch {
      return undefined;
    }
  }

  private read(pid: number, startSeconds: number, now: number): Copy | undefined {
    const text = readFileSync(`/proc/${pid}/environ`, 'utf8');
    if (!text.includes('XTREEMOS_RUN=')) return undefined;
    const env = new Map(text.split('\0').map((line) => line.split(/=(.*)/s, 2) as [string, string]));
    const of = (name: string): string => env.get(`XTREEMOS_${name}`) ?? '';
    const [job, index, run, node] = [of('JOB'), of('TASK_INDEX'), of('RUN'), of('NODE')];
    const id = [node, job, index, run].join('/');
    const before = this.copies.get(id);
    if (before !== undefined) return before;
    const upSeconds = Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]);
    const copy = { job, index, run, node, startedAt: now - 1000 * (upSeconds - startSeconds), lastSeenAt: now };
    this.copies.set(id, copy);
    return copy;
  }
}
