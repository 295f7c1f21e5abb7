import type { XCap } from '#proto/generated/xtreemfs/global-types.ts';
import type { Stat } from '#proto/generated/xtreemfs/mrc.ts';
import type { Caller } from '../core/access.ts';
import { getattr } from '../core/attributes.ts';
import { openFlags } from '../core/capabilities.ts';
import { PosixError } from '../core/errno.ts';
import type { Opened } from '../core/files.ts';
import { open } from '../core/files.ts';
import { ListingPositions, readdir } from '../core/listing.ts';
import type { Operation } from '../core/operation.ts';
import { getxattr, setxattr } from '../core/xattrs.ts';
import type { SystemWrite } from '../core/system-attribute.ts';
import type { Engine } from '../engine.ts';
import { root } from './fixtures.ts';

/** The client that opens files unless another is named. */
export const mount = 'mount';

/** Short forms of what tests do to an engine. Paths are in the volume `vol`. */
export class Harness {
  readonly engine: Engine;
  readonly volumeName: string;

  constructor(engine: Engine, volumeName = 'vol') {
    this.engine = engine;
    this.volumeName = volumeName;
  }

  async as<T>(caller: Caller, body: (op: Operation) => T): Promise<T> {
    return this.engine.run(caller, body);
  }

  /** `done`, or the name of the errno. */
  async codeOf(caller: Caller, body: (op: Operation) => unknown): Promise<string> {
    try {
      await this.as(caller, body);
      return 'done';
    } catch (error) {
      if (error instanceof PosixError) return error.code;
      throw error;
    }
  }

  async open(
    caller: Caller,
    path: string,
    flags: number = openFlags.create | openFlags.readWrite,
    mode = 0o644,
    client: string | undefined = mount,
  ): Promise<Opened> {
    return this.as(caller, this.opening(path, flags, mode, client));
  }

  opening(
    path: string,
    flags: number = openFlags.create | openFlags.readWrite,
    mode = 0o644,
    client: string | undefined = mount,
  ): (op: Operation) => Opened {
    const { volumeName } = this;
    return (op) => open(op, { volumeName, path, flags, mode, attributes: 0, coordinates: undefined, client });
  }

  /** Attributes, with the link count that our client shows. */
  async stat(path: string): Promise<Stat> {
    const stat = await this.as(root, (op) => getattr(op, this.volumeName, path, 0));
    if (stat === undefined) throw new Error(`${path} has no attributes`);
    return { ...stat, nlink: linksOf(stat) };
  }

  async names(path: string): Promise<string[]> {
    const args = { volumeName: this.volumeName, path, knownEtag: 0, limit: 0, namesOnly: true, seen: 0 };
    const entries = await this.as(root, (op) => readdir(op, args, new ListingPositions()));
    return entries.map((entry) => entry.name).filter((name) => name !== '.' && name !== '..');
  }

  async get(path: string, name: string, caller = root): Promise<string> {
    return (await this.as(caller, (op) => getxattr(op, this.volumeName, path, name))).toString();
  }

  async set(path: string, name: string, value: string, caller = root): Promise<SystemWrite | undefined> {
    return this.as(caller, this.setting(path, name, value));
  }

  setting(path: string, name: string, value: string, flags = 0): (op: Operation) => SystemWrite | undefined {
    return (op) => setxattr(op, this.volumeName, path, name, { value: Buffer.from(value), flags, isAdmin: false });
  }
}

/** Link count as our client shows it: that of a directory stands in a field of its own. */
export function linksOf(stat: Stat): number {
  return stat.directoryLinks ?? stat.nlink;
}

/** A capability with one field changed, as a forger would. */
export function altered(cap: XCap, change: Partial<XCap>): XCap {
  return { ...cap, ...change };
}
