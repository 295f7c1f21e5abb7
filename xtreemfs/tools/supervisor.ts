import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import type { Clock } from '#common/clock.ts';
import { TerminalError } from '#common/errors.ts';

/** A process that is kept running. */
export interface SupervisedInit {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** What it writes is appended here. */
  readonly logPath: string;
  readonly clock: Clock;
  /** Told of every death and every start. */
  readonly note: (line: string) => void;
}

const restartDelayMs = { first: 100, max: 5_000 };
const startTimeoutMs = 60_000;
const stopTimeoutMs = 15_000;

/** Keeps one process running: starts it again, with growing pauses, when it ends by itself. */
export class Supervised {
  private readonly init: SupervisedInit;
  private child: ChildProcess | undefined;
  private isStopping = false;
  private running: Promise<void> = Promise.resolve();

  constructor(init: SupervisedInit) {
    this.init = init;
  }

  get name(): string {
    return this.init.name;
  }

  get pid(): number | undefined {
    return this.child?.pid;
  }

  /**
   * Starts it, and waits until it says that it serves.
   * @throws {TerminalError} when it ends before, with the place and the end of its log.
   */
  async start(): Promise<void> {
    let serving: () => void = () => undefined;
    const isServing = new Promise<void>((resolve) => (serving = resolve));
    const first = this.runOnce(serving);
    const timeout = new AbortController();
    try {
      await Promise.race([
        isServing,
        first.then((how) => {
          throw this.failure(`ended at once (${how})`);
        }),
        this.init.clock.sleep(startTimeoutMs, timeout.signal).then(() => {
          throw this.failure(`did not serve within ${startTimeoutMs / 1000} s`);
        }),
      ]);
    } finally {
      timeout.abort();
    }
    this.running = this.keepRunning(first);
  }

  /** Ends it and waits; one that doesn't end in time is killed. */
  async stop(): Promise<void> {
    this.isStopping = true;
    const { child } = this;
    child?.kill('SIGTERM');
    const timer = this.init.clock.after(stopTimeoutMs, () => child?.kill('SIGKILL'), { unref: true });
    await this.running;
    timer.cancel();
  }

  private async keepRunning(first: Promise<string>): Promise<void> {
    const { clock, note, name } = this.init;
    let hasServed = true;
    let delayMs = restartDelayMs.first;
    const serving = (): void => {
      hasServed = true;
      note(`${name} serves again`);
    };
    for (let how = await first; !this.isStopping; how = await this.runOnce(serving)) {
      if (hasServed) delayMs = restartDelayMs.first;
      hasServed = false;
      note(`${name} ended (${how}); starting it again`);
      await clock.sleep(delayMs);
      delayMs = Math.min(restartDelayMs.max, delayMs * 2);
    }
  }

  private async runOnce(onServing: () => void): Promise<string> {
    if (this.isStopping) return 'stopped';
    const [program, ...args] = this.init.command;
    const log = openSync(this.init.logPath, 'a', 0o640);
    // A session of its own: Ctrl-C reaches only the supervisor, which ends what it runs in the right order.
    const child = spawn(program, args, { stdio: ['ignore', log, log, 'ipc'], env: this.init.env, detached: true });
    closeSync(log);
    this.child = child;
    child.once('message', onServing);
    return await new Promise((resolve) => {
      child.once('error', (error) => resolve(error.message));
      child.once('exit', (code, signal) => resolve(signal === null ? `exit ${code}` : `signal ${signal}`));
    });
  }

  private failure(problem: string): TerminalError {
    const isFrame = (line: string): boolean => /^\s+at /.test(line);
    const log = endOf(this.init.logPath)
      .trimEnd()
      .split('\n')
      .filter((line) => !isFrame(line))
      .slice(-3);
    return new TerminalError(
      `${this.init.name} ${problem}: see ${this.init.logPath}, which ends with\n${log.join('\n')}`,
    );
  }
}

/** The last 4 KiB of a file. */
function endOf(file: string): string {
  const opened = openSync(file, 'r');
  try {
    const end = Buffer.alloc(4096);
    const read = readSync(opened, end, 0, end.length, Math.max(0, fstatSync(opened).size - end.length));
    return end.toString('utf8', 0, read);
  } finally {
    closeSync(opened);
  }
}
