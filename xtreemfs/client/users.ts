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

/** Users of whom two other files tell than this machine's own. */
export function issuedUsers(
  source: UserSource,
  paths: { readonly usersPath: string; readonly groupsPath: string },
): UserSource {
  const instead: Readonly<Record<string, string>> = { '/etc/passwd': paths.usersPath, '/etc/group': paths.groupsPath };
  return { read: (path) => source.read(instead[path] ?? path) };
}

/** What an unknown name becomes (protocol reference, 17.3). */
export const nobodyId = 65_534;

/** Whom an id stands for that is not among a closed set; for users and groups. */
export const nobodyName = 'nobody';

const idMax = 0xffff_fffe;
const refreshMs = 10_000;
/** An id that is not known may be new. */
const refreshUnknownMs = 250;
const groupsTtlMs = 5_000;
const callersMax = 4_096;

class NameTable {
  private readonly names = new Map<number, string>();
  private readonly ids = new Map<string, number>();
  private readonly isClosed: boolean;

  constructor(text: string, isClosed: boolean) {
    this.isClosed = isClosed;
    for (const line of text.split('\n')) {
      const [name, , idText] = line.split(':');
      const id = Number(idText);
      if (name === undefined || name === '' || idText === undefined || !Number.isInteger(id)) continue;
      if (!this.names.has(id)) this.names.set(id, name);
      if (!this.ids.has(name)) this.ids.set(name, id);
    }
  }

  hasId(id: number): boolean {
    return this.names.has(id);
  }

  nameOf(id: number): string {
    return this.names.get(id) ?? (this.isClosed ? nobodyName : String(id));
  }

  idOf(name: string): number {
    const id = this.ids.get(name);
    if (id !== undefined) return id;
    if (this.isClosed) return nobodyId;
    const number = /^\d{1,10}$/.test(name) ? Number(name) : nobodyId;
    return number <= idMax ? number : nobodyId;
  }
}

/**
 * Translates between the numbers of this machine and the names that XtreemFS stores: a number without a name is
 * written in digits, a name without a number is shown as 65534. When the set of names is closed, every number outside it,
 * 0 too, is nobody.
 */
export class UserMapping {
  private readonly source: UserSource;
  private readonly clock: Clock;
  private readonly isClosed: boolean;
  private users: NameTable;
  private groups: NameTable;
  private readAt = -Infinity;
  private readonly callers = new Map<string, { user: UserCredentials; until: number }>();

  constructor(source: UserSource, clock: Clock, options: { readonly isClosed?: boolean } = {}) {
    this.source = source;
    this.clock = clock;
    this.isClosed = options.isClosed ?? false;
    this.users = new NameTable('', this.isClosed);
    this.groups = new NameTable('', this.isClosed);
  }

  userName(uid: number): string {
    this.refresh(this.isClosed && !this.users.hasId(uid) ? refreshUnknownMs : refreshMs);
    return this.users.nameOf(uid);
  }

  groupName(gid: number): string {
    this.refresh(this.isClosed && !this.groups.hasId(gid) ? refreshUnknownMs : refreshMs);
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
    this.userName(uid);
    // An id that nobody was given gets nothing by its groups either, and may be somebody's in a moment, when it is new.
    if (this.isClosed && !this.users.hasId(uid)) return { username: nobodyName, groups: [nobodyName] };
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

  private refresh(maxAgeMs = refreshMs): void {
    const now = this.clock.monotonic();
    if (now < this.readAt + maxAgeMs) return;
    this.readAt = now;
    this.users = new NameTable(this.source.read('/etc/passwd') ?? '', this.isClosed);
    this.groups = new NameTable(this.source.read('/etc/group') ?? '', this.isClosed);
  }
}
