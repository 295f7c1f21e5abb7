/**
 * How long real sites take to start, and how much memory they need.
 *
 * usage: node bench/sites-start.ts [--sites 2] [--nodes 2] [--cold]
 *
 * Warm: everything is built; takes the instance `bench` down and up once before measuring. Cold: with empty caches of
 * this project and of Go (module downloads included), as on a fresh machine. Needs root.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

const main = join(import.meta.dirname, '../e2e/sites/main.ts');
const { values } = parseArgs({
  options: {
    sites: { type: 'string', default: '2' },
    nodes: { type: 'string', default: '2' },
    cold: { type: 'boolean', default: false },
  },
});

/** Runs the command line of the sites. @returns its last line. */
async function run(args: readonly string[], env: NodeJS.ProcessEnv): Promise<string> {
  const child = spawn(process.execPath, [main, ...args, '--name', 'bench'], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (output += chunk));
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (status !== 0) throw new Error(`${args.join(' ')} ended with status ${String(status)}`);
  return output.trimEnd().split('\n').at(-1) ?? '';
}

const size = ['--sites', values.sites, '--nodes', values.nodes];
const scratch = values.cold ? mkdtempSync(join(tmpdir(), 'sites-cold-')) : undefined;
const env: NodeJS.ProcessEnv = { ...process.env };
if (scratch !== undefined) {
  Object.assign(env, {
    XDG_CACHE_HOME: join(scratch, 'cache'),
    GOCACHE: join(scratch, 'go-build'),
    GOMODCACHE: join(scratch, 'go-mod'),
    GOFLAGS: '-modcacherw',
    XTREEMOS_TOOLS_DIR: '',
  });
}
try {
  await run(['down'], env);
  if (!values.cold) {
    await run(['up', ...size], env);
    await run(['down'], env);
  }
  const figure = await run(['up', ...size], env);
  await run(['down'], env);
  console.log(figure);
} finally {
  if (scratch !== undefined) await rm(scratch, { recursive: true, force: true });
}
