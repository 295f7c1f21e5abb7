/** An instance: one or more sites under one name, with all that lasts in one folder. */
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, linkSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';

import { z } from 'zod';

import { TerminalError } from '#common/errors.ts';

import { chooseIndex, type InstancePlan, planInstance } from './addresses.ts';
import { Backbone } from './backbone.ts';
import { ControlGroup } from './cgroups.ts';
import { writeFileAtomic } from './files.ts';
import { withLock } from './lock.ts';
import { Machine } from './machine.ts';
import { cniTools, nodeTools } from './node.ts';
import { runCommand } from './shell.ts';
import { Site } from './site.ts';
import type { Tools } from './tools.ts';

const letter = z.string().regex(/^[a-p]$/);
const recordSchema = z.strictObject({
  format: z.literal(1),
  name: z.string(),
  index: z.number().int().min(0).max(15),
  sites: z.number().int(),
  nodes: z.number().int(),
  createdAt: z.string(),
  /** Set when everything was ready once; until then an instance is rubble that `up` clears first. */
  readyAt: z.string().optional(),
  /** Pairs of sites that can't reach each other. */
  cuts: z.array(z.tuple([letter, letter])),
  /** Sites that hear another and are not heard by it. Left out while there are none. */
  oneWayCuts: z.array(z.strictObject({ from: letter, to: letter })).optional(),
  /** Nodes that can't reach their API server. */
  apiCuts: z.array(z.string()),
  slowLinks: z.array(z.strictObject({ from: letter, to: letter, kbitPerSecond: z.number().positive() })),
});

/** The lasting record of an instance. */
export type InstanceRecord = z.infer<typeof recordSchema>;

/** Parses the text of `instance.json`. @throws {TerminalError} when it is damaged or of another version. */
export function parseRecord(text: string, path: string): InstanceRecord {
  try {
    return recordSchema.parse(JSON.parse(text));
  } catch (cause) {
    throw new TerminalError(`${path} is damaged or of another version; make sites-down clears it`, { cause });
  }
}

/** Folder of all instances: `XTREEMOS_SITES_DIR`, else `/var/lib/xtreemos-sites`. */
export function sitesRoot(): string {
  const given = process.env.XTREEMOS_SITES_DIR;
  return given === undefined || given === '' ? usualRoot : resolve(given);
}

const usualRoot = '/var/lib/xtreemos-sites';

/**
 * The control group of an instance, whether it exists or not. Instances of one name in different folders are different
 * instances, so the folder is part of the group's name when it isn't the usual one.
 */
export function groupOf(name: string): ControlGroup {
  const suffix = createHash('sha256').update(sitesRoot()).digest('hex').slice(0, 8);
  return new ControlGroup(sitesRoot() === usualRoot ? name : `${name}.${suffix}`);
}

/** File of the lock that work on an instance holds. Not beside the instance, so that nothing of it stays there. */
export function lockPath(name: string): string {
  return join('/run/lock/xtreemos-sites', name);
}

/** An instance as found on disk. */
export class Instance {
  readonly dir: string;
  readonly plan: InstancePlan;
  readonly group: ControlGroup;
  readonly backbone: Backbone;
  readonly sites: readonly Site[];
  readonly tools: Tools;
  private current: InstanceRecord;

  constructor(record: InstanceRecord, tools: Tools) {
    this.current = record;
    this.tools = tools;
    this.dir = join(sitesRoot(), record.name);
    this.plan = planInstance(record.name, record.index, record.sites, record.nodes);
    this.group = groupOf(record.name);
    this.backbone = new Backbone(
      this.plan,
      new Machine({ name: 'router', dir: join(this.dir, 'router'), group: this.group.child('router') }),
    );
    this.sites = this.plan.sites.map((site) => new Site(this, site));
  }

  /** The lasting record. */
  get record(): InstanceRecord {
    return this.current;
  }

  /** kubeconfig with a context for every login at every site; the current one is the administrator of the first. */
  get kubeconfigPath(): string {
    return join(this.dir, 'kubeconfig');
  }

  /** Folder with the programs that nodes bind: `bin` and `cni`. */
  get programsDir(): string {
    return join(this.dir, 'programs');
  }

  /**
   * Fills `programsDir`. Real files, as runc runs a sealed copy of itself from an overlay over its folder, where a file
   * bound into the folder wouldn't show.
   */
  stagePrograms(): void {
    for (const [folder, names] of [
      ['bin', nodeTools],
      ['cni', cniTools],
    ] as const) {
      mkdirSync(join(this.programsDir, folder), { recursive: true });
      for (const name of names) linkOrCopy(this.tools.path(name), join(this.programsDir, folder, name));
    }
  }

  /** Changes the lasting record. */
  update(change: Partial<InstanceRecord>): void {
    this.current = { ...this.current, ...change };
    saveRecord(this.current);
  }

  /** The site of a letter or full name. @throws when there is none. */
  site(name: string): Site {
    const { letter: wanted } = this.backbone.site(name);
    const site = this.sites.find((each) => each.plan.letter === wanted);
    if (site === undefined) throw new Error(`no site ${name}`);
    return site;
  }
}

/** A hard link costs nothing; across file systems the file is copied. A file that is there is kept. */
function linkOrCopy(source: string, target: string): void {
  if (existsSync(target)) return;
  try {
    linkSync(source, target);
  } catch {
    copyFileSync(source, target);
  }
}

function recordPath(name: string): string {
  return join(sitesRoot(), name, 'instance.json');
}

function saveRecord(record: InstanceRecord): void {
  writeFileAtomic(recordPath(record.name), `${JSON.stringify(record, null, 2)}\n`);
}

/** Reads an instance's record; undefined when there is no such instance. */
export function findRecord(name: string): InstanceRecord | undefined {
  const path = recordPath(name);
  return existsSync(path) ? parseRecord(readFileSync(path, 'utf8'), path) : undefined;
}

/** Names of all instances on this machine, damaged ones too. */
export function instanceNames(): string[] {
  if (!existsSync(sitesRoot())) return [];
  return readdirSync(sitesRoot(), { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'))
    .map((entry) => entry.name)
    .sort();
}

/** Writes the record of a new instance, with a number that no other instance and no route of this machine uses. */
export async function createRecord(name: string, sites: number, nodes: number): Promise<InstanceRecord> {
  planInstance(name, 0, sites, nodes);
  return withLock(lockPath('.all'), async () => {
    const others = instanceNames().filter((other) => other !== name);
    const taken = new Set(others.flatMap((other) => findIndex(other) ?? []));
    const routes = JSON.parse(await runCommand(['ip', '-json', 'route', 'show', 'table', 'all'])) as { dst: string }[];
    const index = chooseIndex(taken, routes.map(({ dst }) => dst)); // prettier-ignore
    const createdAt = new Date().toISOString();
    const record: InstanceRecord = {
      format: 1,
      name,
      index,
      sites,
      nodes,
      createdAt,
      cuts: [],
      apiCuts: [],
      slowLinks: [],
    };
    mkdirSync(join(sitesRoot(), name), { recursive: true, mode: 0o755 });
    saveRecord(record);
    return record;
  });
}

/** A damaged record may still hold its number; without one, its networks are found among the routes. */
function findIndex(name: string): number | undefined {
  try {
    return findRecord(name)?.index;
  } catch {
    return undefined;
  }
}

/** Removes an instance's folder. Its processes must have ended. */
export function removeFolder(name: string): void {
  rmSync(join(sitesRoot(), name), { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  if (existsSync(sitesRoot()) && readdirSync(sitesRoot()).length === 0) rmdirSync(sitesRoot());
}
