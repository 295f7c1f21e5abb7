/** A member who works with `xos` and kubectl, in a folder of their own. */
import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { Readable } from 'node:stream';
import { ensureTools } from '#sites/tools.ts';

const bundle = path.resolve(import.meta.dirname, '../../dist/xos.mjs');

/** Somebody who is logged in. */
export class MemberShell {
  /** Flags with which xos and kubectl work in the namespace of the virtual organization. */
  readonly context: readonly string[];
  private readonly scratch: string;
  private readonly program: string;
  private readonly kubectlProgram: string;
  private readonly env: NodeJS.ProcessEnv;

  private constructor(kubeconfig: string, context: string, kubectl: string) {
    this.context = ['--context', context];
    this.scratch = mkdtempSync(path.join(tmpdir(), 'xtreemos-demo-'));
    this.program = path.join(this.scratch, 'xos');
    this.kubectlProgram = kubectl;
    const config = path.join(this.scratch, 'kubeconfig');
    copyFileSync(kubeconfig, config);
    writeFileSync(this.program, `#!/bin/sh\nexec '${process.execPath}' '${bundle}' "$@"\n`);
    chmodSync(this.program, 0o700);
    const search = `${this.scratch}:${process.env.PATH ?? ''}`;
    this.env = { ...process.env, KUBECONFIG: config, XDG_STATE_HOME: path.join(this.scratch, 'state'), PATH: search };
  }

  /**
   * @param as - context of the kubeconfig whose user logs in.
   * @param context - that which the login makes.
   */
  static async logIn(kubeconfig: string, as: string, context: string): Promise<MemberShell> {
    const shell = new MemberShell(kubeconfig, context, (await ensureTools(['kubectl'])).path('kubectl'));
    shell.run(shell.program, ['login', '--kubernetes', '--context', as]);
    return shell;
  }

  xos(command: string, ...words: readonly string[]): string {
    return this.run(this.program, [command, ...this.context, ...words]);
  }

  kubectl(...words: readonly string[]): string {
    return this.run(this.kubectlProgram, [...this.context, ...words]);
  }

  /** Runs a command beside the task of a job, with a stream as its input. */
  async feed(job: string, command: readonly string[], input: Readable): Promise<void> {
    const child = spawn(this.program, ['exec', '-i', ...this.context, job, '--', ...command], {
      env: this.env,
      stdio: ['pipe', 'inherit', 'inherit'],
    });
    const ended = new Promise<number | null>((resolve, reject) => child.on('error', reject).on('close', resolve));
    await pipeline(input, child.stdin);
    const status = await ended;
    if (status !== 0) throw new Error(`xos exec ${job} -- ${command.join(' ')} ended with status ${status ?? 'none'}`);
  }

  /** What a command beside the task of a job prints, as bytes. */
  fetch(job: string, command: readonly string[]): Buffer {
    return execFileSync(this.program, ['exec', ...this.context, job, '--', ...command], {
      ...{ env: this.env, timeout: 90_000, maxBuffer: 64 * 1024 * 1024, stdio: ['ignore', 'pipe', 'inherit'] },
    });
  }

  /** Ends the session and forgets it. */
  logOut(site: string): void {
    try {
      this.run(this.program, ['logout', '--site', site]);
    } finally {
      rmSync(this.scratch, { recursive: true, force: true });
    }
  }

  private run(program: string, words: readonly string[]): string {
    return execFileSync(program, words, {
      ...{ env: this.env, encoding: 'utf8', timeout: 180_000, stdio: ['ignore', 'pipe', 'inherit'] },
    });
  }
}
