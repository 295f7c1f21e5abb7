import { readFileSync } from 'node:fs';
import type { Clock } from '#common/clock.ts';
import type { UserCredentials } from '#proto/generated/xtreemfs/rpc.ts';

/** Where names of users and groups come from: the texts of `/etc/passwd` and `/etc/group`, and of `/proc`. */
export interface UserSource {
  /** @returns undefined when there is no such file. */
  read(path: string): string | undefined;
}

export const systemUsers: UserSource = {
  read: (path) => {
    try {
      return readFileSync(path, 'utf8');
    } catch {
      return undefined;
    }
  },
};

/** What an unknown name becomes (protocol reference, 17.3). */
export const nobodyId = 65_534;

const idMax = 0xffff_fffe;
const refreshMs = 10_000;
const groupsTtlMs = 5_000;
const callersMax = 4_096;

class NameTable {
  private readonly names = new Map<number, string>();
  private readonly ids = new Map<string, number>();

  constructor(text: string) {
    for (const line of text.split('\n')) {
      const [name, , idText] = line.split(':');
      const id = Number(idText);
      if (name === undefined || name === '' || idText === undefined || !Number.isInteger(id)) continue;
      if (!this.names.has(id)) this.names.set(id, name);
      if (!this.ids.has(name)) this.ids.set(name, id);
    }
  }

  nameOf(id: number): string {
    return this.names.get(id) ?? String(id);
  }

  idOf(name: string): number {
    const id = this.ids.get(name);
    if (id !== undefined) return id;
    const number = /^\d{1,10}$/.test(name) ? Number(name) : nobodyId;
    return number <= idMax ? number : nobodyId;
  }
}

/**
 * Translates between the numbers of this machine and the names that XtreemFS stores: a number without a name is
 * written in digits, a name without a number is shown as 65534.
 */
export class UserMapping {
  private readonly source: UserSource;
  private readonly clock: Clock;
  private users = new NameTable('');
  private groups = new NameTable('');
  private readAt = -Infinity;
  private readonly callers = new Map<string, { user: UserCredentials; until: number }>();

  constructor(source: UserSource, clock: Clock) {
    this.source = source;
    this.clock = clock;
  }

  userName(uid: number): string {
    this.refresh();
    return this.users.nameOf(uid);
  }

  groupName(gid: number): string {
    this.refresh();
    return this.groups.nameOf(gid);
  }

  uid(name: string): number {
    this.refresh();
    return this.users.idOf(name);
  }

  gid(name: string): number {
    this.refresh();
    return this.groups.idOf(name);
  }

  /**
   * Name and groups of a calling process. Its supplementary groups are looked up in `/proc` and kept for some seconds;
   * a process that has ended, or is not visible (`pid` 0), has its primary group only.
   */
  caller(uid: number, gid: number, pid: number): UserCredentials {
    const key = `${uid}:${gid}:${pid}`;
    const now = this.clock.monotonic();
    const known = this.callers.get(key);
    if (known !== undefined && known.until > now) return known.user;
    const groups = [gid, ...this.supplementaryGroups(pid).filter((id) => id !== gid)];
    const user = { username: this.userName(uid), groups: groups.map((id) => this.groupName(id)) };
    if (this.callers.size >= callersMax) {
      const oldest = this.callers.keys().next().value;
      if (oldest !== undefined) this.callers.delete(oldest);
    }
    this.callers.delete(key);
    this.callers.set(key, { user, until: now + groupsTtlMs });
    return user;
  }

  private supplementaryGroups(pid: number): number[] {
    if (pid === 0) return [];
    const line = /^Groups:\s*(.*)$/m.exec(this.source.read(`/proc/${pid}/status`) ?? '')?.[1] ?? '';
    return line.split(/\s+/).filter(Boolean).map(Number);
  }

  private refresh(): void {
    const now = this.clock.monotonic();
    if (now < this.readAt + refreshMs) return;
    this.readAt = now;
    this.users = new NameTable(this.source.read('/etc/passwd') ?? '');
    this.groups = new NameTable(this.source.read('/etc/group') ?? '');
  }
}
