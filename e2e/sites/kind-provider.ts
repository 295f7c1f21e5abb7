/** The same sites in Docker containers, where Docker and kind's node image are at hand. */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import { stringify } from 'yaml';

import { TerminalError } from '#common/errors.ts';

import { applyObjects, renderCertManager, waitCertManager } from './addons.ts';
import { planInstance } from './addresses.ts';
import { cacheRoot, ensureTools, type Tools } from './tools.ts';
import { writeFileAtomic } from './files.ts';
import { KubeClient } from './kube-client.ts';
import { readCredentials } from './kubeconfig.ts';
import type { UpOptions } from './lifecycle.ts';
import { siteTools } from './lifecycle.ts';
import { findCommand } from './prerequisites.ts';
import type { ProvidedSite, ProvidedSites, SitesProvider } from './provider.ts';
import { runCommand, tryCommand } from './shell.ts';
import { ensureSystemImages } from './system-images.ts';

const nodeImage = 'kindest/node';

/** Why kind can't run here, as one sentence with what would help; undefined when it can. */
export async function kindObstacle(): Promise<string | undefined> {
  if (findCommand('docker') === undefined) return 'there is no docker command; install Docker, or use PROVIDER=local';
  const info = await tryCommand(['docker', 'info']);
  if (info.status !== 0)
    return `the Docker daemon doesn't answer (${info.stderr.trim().split('\n').at(-1) ?? ''}); start it`;
  const images = await runCommand(['docker', 'image', 'ls', '--quiet', nodeImage]);
  if (images.trim() === '') return `Docker has no ${nodeImage} image; docker pull ${nodeImage}`;
  return undefined;
}

/** One kind cluster per site, all on Docker's network `kind`. */
export const kindProvider: SitesProvider = {
  up: async (options) => {
    const tools = await ensureTools([...siteTools, 'kind'], { report: options.report });
    const wanted = planInstance(options.name, 0, options.sites, options.nodes).sites.map((site) => site.name);
    const existing = await clustersOf(tools, options.name);
    for (const site of wanted) await upSite(site, options, tools, existing.includes(site));
    return { ...(await open(options.name, tools)), isWarm: true };
  },
  open: async (name) => open(name, await ensureTools([...siteTools, 'kind'])),
  down: async (name, report) => {
    const tools = await ensureTools(['kind'], { report });
    const own = await clustersOf(tools, name);
    for (const cluster of own) await kind(tools, cluster, 'delete', 'cluster');
    rmSync(folder(name), { recursive: true, force: true });
    return own.length > 0;
  },
};

async function open(name: string, tools: Tools): Promise<ProvidedSites> {
  const clusters = await clustersOf(tools, name);
  if (clusters.length === 0)
    throw new TerminalError(`no kind clusters of ${name}; make sites PROVIDER=kind NAME=${name}`);
  const sites: ProvidedSite[] = [];
  for (const cluster of clusters) {
    const listed = (await kind(tools, cluster, 'get', 'nodes')).split('\n').sort();
    const nodes = listed.filter((node) => node !== '' && !node.endsWith('control-plane'));
    const format = '{{.NetworkSettings.Networks.kind.IPAddress}}';
    const address = await runCommand(['docker', 'inspect', '--format', format, nodes[0] ?? '']);
    sites.push({
      name: cluster,
      kubeconfig: kubeconfigOf(name, cluster),
      nodes,
      gatewayAddress: address.trim(),
      loadImages: async (archive) => {
        await kind(tools, cluster, 'load', 'image-archive', archive);
      },
    });
  }
  const kubeconfig = join(folder(name), 'kubeconfig');
  const env = { ...environment(), KUBECONFIG: sites.map((site) => site.kubeconfig).join(':') };
  writeFileAtomic(kubeconfig, await runCommand([tools.path('kubectl'), 'config', 'view', '--flatten'], { env }));
  return { kubeconfig, status: { name, sites: clusters }, sites };
}

async function upSite(site: string, options: UpOptions, tools: Tools, exists: boolean): Promise<void> {
  const dir = folder(options.name);
  mkdirSync(dir, { recursive: true });
  const kubeconfig = kubeconfigOf(options.name, site);
  if (!exists) {
    const roles = ['control-plane', ...Array.from({ length: options.nodes }, () => 'worker')];
    const config = { kind: 'Cluster', apiVersion: 'kind.x-k8s.io/v1alpha4', nodes: roles.map((role) => ({ role })) };
    const path = join(dir, `${site}.yaml`);
    writeFileAtomic(path, stringify(config));
    await kind(tools, site, 'create', 'cluster', '--config', path, '--kubeconfig', kubeconfig, '--wait', '5m');
  }
  await kind(tools, site, 'export', 'kubeconfig', '--kubeconfig', kubeconfig);
  options.report(`${site}: kind cluster ready`);
  const images = await ensureSystemImages(tools, options.report);
  for (const archive of [images.base, images.certManager]) await kind(tools, site, 'load', 'image-archive', archive);
  const client = new KubeClient(readCredentials(kubeconfig));
  try {
    await applyObjects(client, await renderCertManager(tools));
    await waitCertManager(client);
  } finally {
    client.close();
  }
}

async function kind(tools: Tools, cluster: string, ...args: string[]): Promise<string> {
  return runCommand([tools.path('kind'), ...args, '--name', cluster], { timeoutMs: 600_000 });
}

async function clustersOf(tools: Tools, name: string): Promise<string[]> {
  const clusters = (await runCommand([tools.path('kind'), 'get', 'clusters'])).split('\n');
  return clusters.filter((cluster) => new RegExp(`^${name}-[a-p]$`).test(cluster)).sort();
}

function kubeconfigOf(name: string, cluster: string): string {
  return join(folder(name), `${cluster}.kubeconfig`);
}

function folder(name: string): string {
  return join(cacheRoot(), 'kind', name);
}

function environment(): Record<string, string> {
  return Object.fromEntries(
    Object.entries(process.env).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])),
  );
}
