/** Helm on a cluster of tests, with folders of its own, so that nothing of the user's is read or written. */
import { execFile } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { promisify } from 'node:util';
import { ensureTools } from './tools.ts';

const run = promisify(execFile);

/**
 * Runs Helm.
 * @param home - folder for what it keeps; made when it isn't there.
 * @returns what it printed. @throws with what it printed, also after `timeoutMs`.
 */
export async function runHelm(
  args: readonly string[],
  { kubeconfig, home, timeoutMs = 90_000 }: { kubeconfig: string; home: string; timeoutMs?: number },
): Promise<string> {
  const helm = (await ensureTools(['helm'])).path('helm');
  mkdirSync(home, { recursive: true });
  const folders = { HOME: home, XDG_CACHE_HOME: home, XDG_CONFIG_HOME: home, XDG_DATA_HOME: home };
  const { stdout } = await run(helm, args, {
    env: { ...process.env, ...folders, KUBECONFIG: kubeconfig },
    timeout: timeoutMs,
    maxBuffer: 16 * 1024 * 1024,
  });
  return stdout;
}
