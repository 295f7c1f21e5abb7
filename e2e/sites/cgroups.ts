/**
 * Control groups of an instance: `/xtreemos-sites/NAME/MACHINE/…` in every hierarchy. Membership is inherited and kept
 * by the kernel, so a group knows all its processes, also those whose starter died before writing them down.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { type Clock, systemClock } from '#common/clock.ts';

import { systemErrorCode } from '#common/errors.ts';

const top = 'xtreemos-sites';
const controllersV2 = ['cpuset', 'cpu', 'io', 'memory', 'pids'];

/** The cgroup hierarchies of this machine. */
export interface Hierarchies {
  readonly version: 1 | 2;
  /** Mount points; with version 1, one per controller set, and the empty version 2 tree beside them when it is there. */
  readonly roots: readonly string[];
}

/** Finds the hierarchies below `base`. */
export function findHierarchies(base = '/sys/fs/cgroup'): Hierarchies {
  if (existsSync(join(base, 'cgroup.controllers'))) return { version: 2, roots: [base] };
  const roots = readdirSync(base, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && existsSync(join(base, entry.name, 'cgroup.procs')))
    .map((entry) => join(base, entry.name));
  if (roots.length === 0) throw new Error(`no cgroup hierarchy is mounted below ${base}`);
  return { version: 1, roots };
}

/** One group, present in every hierarchy. Paths are relative: `NAME`, `NAME/MACHINE`, `NAME/MACHINE/system`. */
export class ControlGroup {
  /** As the kubelet's `cgroupRoot` wants it. */
  readonly path: string;
  private readonly hierarchies: Hierarchies;

  constructor(relative: string, hierarchies: Hierarchies = findHierarchies()) {
    this.path = `/${top}/${relative}`;
    this.hierarchies = hierarchies;
  }

  /** A group below this one. */
  child(name: string): ControlGroup {
    return new ControlGroup(`${this.path.slice(top.length + 2)}/${name}`, this.hierarchies);
  }

  /** Makes the group and those above it, ready to take processes. */
  create(): void {
    for (const root of this.hierarchies.roots) {
      let folder = root;
      for (const part of this.path.split('/').filter((each) => each !== '')) {
        const parent = folder;
        folder = join(folder, part);
        if (this.hierarchies.version === 2) enableControllers(parent);
        mkdirSync(folder, { recursive: true });
        inheritCpuset(parent, folder);
      }
    }
  }

  /** A shell prefix that puts the shell, and all it starts, into this group. */
  joinScript(): string {
    return this.folders()
      .map((folder) => `echo $$ > ${folder}/cgroup.procs`)
      .join('; ');
  }

  /** Pids of every process in this group and below, of any hierarchy. */
  pids(): number[] {
    const found = new Set<number>();
    const visit = (folder: string): void => {
      for (const line of readLines(join(folder, 'cgroup.procs'))) found.add(Number(line));
      for (const name of listFolders(folder)) visit(join(folder, name));
    };
    for (const folder of this.folders()) visit(folder);
    // 0 stands for a process that this PID namespace doesn't see.
    return [...found].filter((pid) => pid > 0);
  }

  /** Stops every process of the group where it stands, or lets them go on. */
  setFrozen(isFrozen: boolean): void {
    for (const folder of this.folders()) {
      if (existsSync(join(folder, 'freezer.state'))) {
        writeFileSync(join(folder, 'freezer.state'), isFrozen ? 'FROZEN' : 'THAWED');
      } else if (existsSync(join(folder, 'cgroup.freeze'))) {
        writeFileSync(join(folder, 'cgroup.freeze'), isFrozen ? '1' : '0');
      }
    }
  }

  /** Kills every process in the group until none is left. @throws when some survive for `limitMs`. */
  async kill(limitMs = 20_000, clock: Clock = systemClock): Promise<void> {
    this.setFrozen(false);
    const end = clock.monotonic() + limitMs;
    for (let pids = this.pids(); pids.length > 0; pids = this.pids()) {
      for (const pid of pids) killQuietly(pid);
      if (clock.monotonic() > end) throw new Error(`processes ${pids.join(', ')} don't end; see /proc/PID/stack`);
      await clock.sleep(10);
    }
  }

  /** Removes the group and those below it in every hierarchy, once no process is left. Nothing there is fine. */
  async remove(clock: Clock = systemClock): Promise<void> {
    for (const folder of this.folders()) {
      for (let attempt = 0; !removeTree(folder); attempt++) {
        if (attempt >= 100) throw new Error(`${folder} can't be removed: ${this.pids().join(', ') || 'busy'}`);
        await clock.sleep(20);
      }
    }
    for (const root of this.hierarchies.roots) removeIfEmpty(join(root, top));
  }

  /** Whether the group exists in any hierarchy. */
  exists(): boolean {
    return this.folders().length > 0;
  }

  private folders(): string[] {
    return this.hierarchies.roots.map((root) => join(root, this.path)).filter((folder) => existsSync(folder));
  }
}

function enableControllers(folder: string): void {
  const offered = new Set(readLines(join(folder, 'cgroup.controllers')).flatMap((line) => line.split(' ')));
  for (const controller of controllersV2.filter((each) => offered.has(each))) {
    writeFileSync(join(folder, 'cgroup.subtree_control'), `+${controller}`);
  }
}

/** A fresh version 1 cpuset is empty and takes no process until it has processors and memory nodes. */
function inheritCpuset(parent: string, folder: string): void {
  for (const file of ['cpuset.cpus', 'cpuset.mems']) {
    const path = join(folder, file);
    if (existsSync(join(parent, file)) && existsSync(path) && readFileSync(path, 'utf8').trim() === '') {
      const inherited = readFileSync(join(parent, file), 'utf8').trim();
      if (inherited !== '') writeFileSync(path, inherited);
    }
  }
}

function listFolders(folder: string): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name);
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return [];
    throw error;
  }
}

function readLines(path: string): string[] {
  try {
    return readFileSync(path, 'utf8')
      .split('\n')
      .filter((line) => line !== '');
  } catch (error) {
    // Gone meanwhile, or a threaded group, whose processes the parent lists.
    if (['ENOENT', 'ENODEV', 'EOPNOTSUPP'].includes(systemErrorCode(error) ?? '')) return [];
    throw error;
  }
}

function removeTree(folder: string): boolean {
  const emptied = listFolders(folder).map((name) => removeTree(join(folder, name)));
  return !emptied.includes(false) && removeIfEmpty(folder);
}

/** @returns whether the folder is gone. */
function removeIfEmpty(folder: string): boolean {
  try {
    rmdirSync(folder);
    return true;
  } catch (error) {
    return systemErrorCode(error) === 'ENOENT';
  }
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (systemErrorCode(error) !== 'ESRCH') throw error;
  }
}
