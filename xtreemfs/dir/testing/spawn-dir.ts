import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

/** A DIR in a process of its own. */
export interface DirProcess {
  readonly port: number;
  /** kill -9, then waits for its end. */
  kill(): Promise<void>;
}

/** Starts a DIR with these flags beside the usual ones of tests. @throws when it ends before it listens. */
export async function spawnDir(flags: readonly string[]): Promise<DirProcess> {
  const script = fileURLToPath(new URL('./dir-process.ts', import.meta.url));
  const usual = ['--port', '0', '--http-port=-1', '--listen-host', '127.0.0.1', '--no-discover'];
  const child = spawn(process.execPath, [script, ...usual, ...flags], { stdio: ['ignore', 'pipe', 'pipe'] });
  let problem = '';
  child.stderr.on('data', (chunk: Buffer) => (problem += chunk.toString()));
  const port = await Promise.race([
    once(child.stdout, 'data').then(([chunk]) => Number(String(chunk))),
    once(child, 'exit').then(() => Promise.reject(new Error(`The DIR did not start: ${problem}`))),
  ]);
  return { port, kill: async () => kill(child) };
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}
