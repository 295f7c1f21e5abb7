/** Bringing instances up, looking at them, taking them down. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { TerminalError } from '#common/errors.ts';

import { addonTools } from './addons.ts';
import { planInstance } from './addresses.ts';
import type { ControlGroup } from './cgroups.ts';
import { controlPlaneTools, controllerTools } from './control-plane.ts';
import { writeFileAtomic } from './files.ts';
import { abortFuse } from './fuse.ts';
import {
  createRecord,
  findRecord,
  groupOf,
  Instance,
  instanceNames,
  lockPath,
  removeFolder,
  sitesRoot,
} from './instance.ts';
import { waitFor } from './kube-client.ts';
import { renderKubeconfig } from './kubeconfig.ts';
import { withLock } from './lock.ts';
import { cniTools, nodeTools } from './node.ts';
import { checkSitePrerequisites } from './prerequisites.ts';
import type { ProcessTable } from './process-table.ts';
import { runCommand, tryCommand } from './shell.ts';
import { siteUsers } from './site.ts';
import { ensureSystemImages, podTools } from './system-images.ts';
import { ensureTools } from './tools.ts';

/** Every program that an instance needs. */
export const siteTools = [
  ...controlPlaneTools,
  ...controllerTools,
  'kubectl',
  ...nodeTools,
  ...cniTools,
  ...podTools,
  ...addonTools,
];

/** What to bring up. */
export interface UpOptions {
  readonly name: string;
  readonly sites: number;
  readonly nodes: number;
  readonly report: (line: string) => void;
}

/** What was brought up. */
export interface UpResult {
  readonly instance: Instance;
  /** Nothing had to be built. */
  readonly isWarm: boolean;
}

/**
 * Brings an instance up and waits until it is ready. One that runs is left as it is, apart from starting again what
 * ended; rubble of an interrupted `up` is cleared first.
 * @throws {TerminalError} when the machine lacks something, or the instance runs with other numbers.
 */
export async function up(options: UpOptions): Promise<UpResult> {
  const { name, sites, nodes, report } = options;
  planInstance(name, 0, sites, nodes); // refuses what can't be planned before anything is built
  await checkSitePrerequisites(sitesRoot(), 1 + sites * (0.6 + nodes * 0.3), report);
  let isWarm = true;
  const building = (line: string): void => {
    isWarm &&= !line.startsWith('Building');
    report(line);
  };
  const tools = await ensureTools(siteTools, { report: building });
  const images = await ensureSystemImages(tools, building);
  const work = async (): Promise<Instance> => {
    const found = await findUsable(options);
    const instance = new Instance(found ?? (await createRecord(name, sites, nodes)), tools);
    instance.group.create();
    instance.stagePrograms();
    await instance.backbone.up(instance.record.cuts, instance.record.oneWayCuts ?? []);
    await Promise.all(instance.sites.map(async (site) => site.up(images, report)));
    writeFileAtomic(instance.kubeconfigPath, mergedKubeconfig(instance));
    instance.update({ readyAt: new Date().toISOString() });
    return instance;
  };
  return { instance: await locked(name, report, work), isWarm };
}

/** The record of an instance that can go on; anything else of that name is cleared away. */
async function findUsable({ name, sites, nodes, report }: UpOptions): Promise<Instance['record'] | undefined> {
  if (!existsSync(join(sitesRoot(), name))) return undefined;
  const record = findRecord(name);
  if (record?.readyAt === undefined) {
    report(`Clearing what an interrupted start of ${name} left behind`);
    await remove(name);
    return undefined;
  }
  if (record.sites !== sites || record.nodes !== nodes) {
    throw new TerminalError(
      `${name} has ${record.sites} site(s) of ${record.nodes} node(s), not ${sites} of ${nodes}: ` +
        `take it down first (make sites-down NAME=${name}) or choose another NAME`,
    );
  }
  return record;
}

/** Opens an instance that exists. @throws {TerminalError} when there is none. */
export async function openInstance(name: string): Promise<Instance> {
  const record = findRecord(name);
  if (record === undefined) {
    const known = instanceNames().join(', ');
    throw new TerminalError(`no instance ${name} on this machine; there are: ${known === '' ? 'none' : known}`);
  }
  return new Instance(record, await ensureTools(siteTools));
}

/** Takes an instance down and removes everything of it. Nothing there is fine. @returns whether there was anything. */
export async function down(name: string, report: (line: string) => void): Promise<boolean> {
  if (!existsSync(join(sitesRoot(), name)) && !groupOf(name).exists()) return false;
  await locked(name, report, async () => remove(name));
  return true;
}

async function locked<T>(name: string, report: (line: string) => void, work: () => Promise<T>): Promise<T> {
  const path = lockPath(name);
  return withLock(path, work, { onWait: (holder) => report(`Waiting for process ${holder}, which works on ${name}`) });
}

async function remove(name: string): Promise<void> {
  const group = groupOf(name);
  abortFuse(group.pids());
  await group.kill();
  await waitLinkGone(name);
  await group.remove();
  removeFolder(name);
}

/** The interface towards the router vanishes with the router's namespace, which the kernel takes down a moment later. */
async function waitLinkGone(name: string): Promise<void> {
  let index: number | undefined;
  try {
    index = findRecord(name)?.index;
  } catch {
    return; // a damaged record: nothing to wait for by name
  }
  if (index === undefined) return;
  const link = `xs${index}-host`;
  const isGone = async (): Promise<boolean> => (await tryCommand(['ip', 'link', 'show', link])).status !== 0;
  try {
    await waitFor(`${link} is gone`, isGone, { limitMs: 5000, pauseMs: 20 });
  } catch {
    await runCommand(['ip', 'link', 'del', link]);
  }
}

function mergedKubeconfig(instance: Instance): string {
  return renderKubeconfig(
    instance.sites.map(({ controlPlane }) => ({
      name: controlPlane.config.name,
      server: controlPlane.server,
      authority: controlPlane.readPair('ca').certificate,
      users: ['admin', ...siteUsers.map((user) => user.name)].map((name) => ({
        name,
        ...controlPlane.readPair(name === 'admin' ? name : `user-${name}`),
      })),
    })),
  );
}

/** One process of an instance. */
export interface ProcessStatus {
  readonly name: string;
  readonly pid: number;
  readonly isRunning: boolean;
  readonly startedAt: string;
  readonly logPath: string;
}

/** One machine of an instance. */
export interface MachineStatus {
  readonly name: string;
  readonly address: string;
  readonly isUp: boolean;
  readonly processes: readonly ProcessStatus[];
}

/** One site of an instance. */
export interface SiteStatus {
  readonly name: string;
  readonly server: string;
  readonly kubeconfig: string;
  readonly auditLog: string;
  readonly gatewayAddress: string;
  readonly machines: readonly MachineStatus[];
}

/** What runs, where, since when. */
export interface InstanceStatus {
  readonly name: string;
  readonly createdAt: string;
  /** Empty when `up` hasn't finished. */
  readonly readyAt: string;
  readonly kubeconfig: string;
  readonly memory: MemoryUse;
  readonly cuts: readonly (readonly [string, string])[];
  readonly sites: readonly SiteStatus[];
}

/** Looks at an instance without changing it. */
export function statusOf(instance: Instance): InstanceStatus {
  return {
    name: instance.record.name,
    createdAt: instance.record.createdAt,
    readyAt: instance.record.readyAt ?? '',
    kubeconfig: instance.kubeconfigPath,
    memory: memoryOf(instance.group),
    cuts: instance.record.cuts,
    sites: instance.sites.map((site) => ({
      name: site.plan.name,
      server: site.controlPlane.server,
      kubeconfig: site.kubeconfigPath,
      auditLog: site.controlPlane.auditLogPath,
      gatewayAddress: site.plan.nodes[0]?.address ?? '',
      machines: [
        { name: site.machine.name, address: site.plan.controlPlane, machine: site.machine },
        ...site.nodes.map(({ plan, machine }) => ({ name: plan.name, address: plan.address, machine })),
      ].map(({ name, address, machine }) => ({
        name,
        address,
        isUp: machine.isUp(),
        processes: processesOf(machine.processes),
      })),
    })),
  };
}

function processesOf(table: ProcessTable): ProcessStatus[] {
  return table
    .list()
    .filter(({ name }) => name !== 'anchor')
    .map(({ name, process: { pid }, startedAt, logPath }) => {
      return { name, pid, isRunning: table.isRunning(name), startedAt, logPath };
    });
}

/** Memory of a group's processes. */
export interface MemoryUse {
  /** Sum of resident sizes; a page that several processes share counts in each. */
  readonly residentBytes: number;
  /** Sum of proportional sizes; a shared page counts once. What would be free again without them. */
  readonly proportionalBytes: number;
}

/** Measures the memory of every process in a group. */
export function memoryOf(group: ControlGroup): MemoryUse {
  const sum = { residentBytes: 0, proportionalBytes: 0 };
  for (const pid of group.pids()) {
    try {
      const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
      const field = (name: string): number =>
        Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(rollup)?.[1] ?? 0) * 1024;
      sum.residentBytes += field('Rss');
      sum.proportionalBytes += field('Pss');
    } catch {
      // Ended meanwhile.
    }
  }
  return sum;
}

/** What `down` must not leave behind, for tests: paths and names that still exist. */
export async function remainsOf(name: string, index: number): Promise<string[]> {
  const group = groupOf(name);
  const links = (await runCommand(['ip', '-o', 'link'])).split('\n');
  const routes = (await runCommand(['ip', 'route'])).split('\n');
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  const folder = join(sitesRoot(), name);
  return [
    ...group.pids().map((pid) => `process ${pid}`),
    ...(group.exists() ? [`control group ${group.path}`] : []),
    ...links.filter((line) => line.includes(`xs${index}-host`)).map((line) => `link ${line}`),
    ...routes.filter((line) => line.includes(`xs${index}-host`)).map((line) => `route ${line}`),
    ...mounts.filter((line) => line.includes(` ${folder}`)).map((line) => `mount ${line}`),
    ...(existsSync(folder) ? readdirSync(folder).map((file) => `file ${join(folder, file)}`) : []),
  ];
}
