/** The same sites in Docker containers, where Docker and kind's node image are at hand. */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import { stringify } from 'yaml';

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
  if (info.status !== 0) return `the Docker daemon doesn't answer (${info.stderr.trim().split('\n').at(-1) ?? ''}); start it`;
  const images = await runCommand(['docker', 'image', 'ls', '--quiet', nodeImage]);
  if (images.trim() === '') return `Docker has no ${nodeImage} image; docker pull ${nodeImage}`;
  return undefined;
}

/** One kind cluster per site, all on Docker's network `kind`. */
export const kindProvider: SitesProvider = {
  up: async (options) => {
    const tools = await ensureTools([...siteTools, 'kind'], { report: options.report });
    const sites = planInstance(options.name, 0, options.sites, options.nodes).sites.map((site) => site.name);
    const existing = (await runCommand([tools.path('kind'), 'get', 'clusters'])).split('\n');
    const provided: ProvidedSite[] = [];
    for (const site of sites) {
      provided.push(await upSite(site, options, tools, existing.includes(site)));
    }
    const kubeconfig = join(folder(options.name), 'kubeconfig');
    const merged = await runCommand([tools.path('kubectl'), 'config', 'view', '--flatten'], {
      env: { ...environment(), KUBECONFIG: provided.map((site) => site.kubeconfig).join(':') },
    });
    writeFileAtomic(kubeconfig, merged);
    return { kubeconfig, isWarm: true, status: { name: options.name, sites }, sites: provided } satisfies ProvidedSites;
  },
  down: async (name, report) => {
    const tools = await ensureTools(['kind'], { report });
    const clusters = (await runCommand([tools.path('kind'), 'get', 'clusters'])).split('\n');
    const own = clusters.filter((cluster) => new RegExp(`^${name}-[a-p]$`).test(cluster));
    for (const cluster of own) {
      await runCommand([tools.path('kind'), 'delete', 'cluster', '--name', cluster], { timeoutMs: 300_000 });
    }
    rmSync(folder(name), { recursive: true, force: true });
    return own.length > 0;
  },
};

async function upSite(site: string, options: UpOptions, tools: Tools, exists: boolean): Promise<ProvidedSite> {
  const dir = folder(options.name);
  mkdirSync(dir, { recursive: true });
  const kubeconfig = join(dir, `${site}.kubeconfig`);
  const kind = async (...args: string[]): Promise<string> => {
    return runCommand([tools.path('kind'), ...args, '--name', site], { timeoutMs: 600_000 });
  };
  if (!exists) {
    const roles = ['control-plane', ...Array.from({ length: options.nodes }, () => 'worker')];
    const config = { kind: 'Cluster', apiVersion: 'kind.x-k8s.io/v1alpha4', nodes: roles.map((role) => ({ role })) };
    const path = join(dir, `${site}.yaml`);
    writeFileAtomic(path, stringify(config));
    await kind('create', 'cluster', '--config', path, '--kubeconfig', kubeconfig, '--wait', '5m');
  }
  await kind('export', 'kubeconfig', '--kubeconfig', kubeconfig);
  options.report(`${site}: kind cluster ready`);
  const nodes = (await kind('get', 'nodes')).split('\n').filter((node) => node !== '' && !node.endsWith('control-plane'));
  const loadImages = async (archive: string): Promise<void> => {
    await kind('load', 'image-archive', archive);
  };
  const images = await ensureSystemImages(tools, options.report);
  await loadImages(images.base);
  await loadImages(images.certManager);
  const client = new KubeClient(readCredentials(kubeconfig));
  try {
    await applyObjects(client, await renderCertManager(tools));
    await waitCertManager(client);
  } finally {
    client.close();
  }
  const address = await runCommand([
    'docker', 'inspect', '--format', '{{.NetworkSettings.Networks.kind.IPAddress}}', nodes[0] ?? '',
  ]); // prettier-ignore
  return { name: site, kubeconfig, nodes, gatewayAddress: address.trim(), loadImages };
}

function folder(name: string): string {
  return join(cacheRoot(), 'kind', name);
}

function environment(): Record<string, string> {
  return Object.fromEntries(Object.entries(process.env).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])));
}
