/** The part of `make demo` that makes two sites peers, by their own commands. */
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import type { Site } from '#crds/site.ts';
import type { TestSite } from '#sites/harness.ts';
import type { NamedSite } from './organization.ts';

const program = path.resolve(import.meta.dirname, '../../dist/xos.mjs');

/** One site invites, the other joins. What is there already is kept; what was begun only is begun again. */
export async function joinSites(home: NamedSite, peer: NamedSite, report: (line: string) => void): Promise<void> {
  const isDone = await Promise.all([isConnected(home.site, peer.siteName), isConnected(peer.site, home.siteName)]);
  if (!isDone.includes(false)) return;
  report(`Making ${home.siteName} and ${peer.siteName} peers: one invites, the other joins`);
  await home.site.kubectl(['delete', 'site', peer.siteName, '--ignore-not-found']);
  await peer.site.kubectl(['delete', 'site', home.siteName, '--ignore-not-found']);
  const invitation = xos(home.site, ['site', 'invite', peer.siteName]);
  xos(peer.site, ['site', 'join', '-', '--yes', '--wait', '--timeout', '90s'], invitation);
}

async function isConnected(site: TestSite, name: string): Promise<boolean> {
  const { status, stdout } = await site.tryKubectl(['get', 'site', name, '-o', 'json']);
  if (status !== 0) return false;
  const found = JSON.parse(stdout) as Site;
  return found.status?.conditions?.some(({ type, status: is }) => type === 'Ready' && is === 'True') === true;
}

/** As the owner of a site. */
function xos(site: TestSite, words: readonly string[], input = ''): string {
  return execFileSync(process.execPath, [program, ...words, '--kubeconfig', site.kubeconfig], {
    ...{ input, encoding: 'utf8', timeout: 120_000, stdio: ['pipe', 'pipe', 'inherit'] },
  });
}
