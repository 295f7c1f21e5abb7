import type { FileCredentials } from '#proto/generated/xtreemfs/global-types.ts';
import type { OpenFile } from '../client/open-file.ts';
import { rootNodeId } from './abi.ts';
import { refuse } from './errno.ts';
import type { Attributes } from './file-system.ts';
import type { JournalRecord } from './journal.ts';
import { LockTable } from './lock-table.ts';
import type { WriteBehind } from './write-behind.ts';

/** A name under which an inode is known. */
export interface Link {
  readonly parent: Node;
  readonly name: string;
}

/** What is known of an inode that the kernel knows. */
export class Node {
  /** File number in the volume; the kernel's node number as well. */
  readonly id: number;
  /** Names it can be reached by; the first one is used. Empty: it was deleted, or its name is not known. */
  links: Link[] = [];
  /** Known children by name. */
  readonly children = new Map<string, Node>();
  /** Look-ups that the kernel has not given back. */
  lookups = 0;
  attributes: Attributes | undefined;
  truncateEpoch = 0;
  /** Number of the attribute state at the MRC that was last heard of; of a directory, it changes with its names. */
  etag = 0;
  /** Which access control lists it has (`Stat.acls`); undefined when the MRC doesn't tell, as upstream's. */
  acls: number | undefined;
  /** Monotonic time until which `attributes` may be used without asking. */
  validUntil = 0;
  /** Every name in this directory, while the kernel's trust in names lasts. */
  listing: { readonly names: Set<string>; until: number } | undefined;
  /** Data of the file, while it is open. */
  file: OpenFile | undefined;
  writes: WriteBehind | undefined;
  openCount = 0;
  /** No name is left, but it is open. */
  isGone = false;
  /** What deletes its objects, once it is closed. */
  deletion: FileCredentials | undefined;
  /** Size and times of modification that the kernel's pages go with. */
  cachedVersion = '';
  /** Size that the kernel has; undefined when a predecessor of this process told it. */
  toldSize: number | undefined;
  /** Threads whose opening was refused so that the kernel looks the file up again. */
  readonly sentBack = new Set<number>();
  locks: LockTable | undefined;
  flocks: LockTable | undefined;

  constructor(id: number) {
    this.id = id;
  }

  lockTable(isFlock: boolean): LockTable {
    if (isFlock) return (this.flocks ??= new LockTable(false));
    return (this.locks ??= new LockTable());
  }
}

/** Takes note of what a successor of this process has to know. */
export type Note = (record: JournalRecord) => void;

/**
 * The inodes that the kernel holds, and their names. XtreemFS knows files by path, the kernel by number: a path is made
 * by walking up, so that renaming a directory costs nothing here.
 */
export class InodeTable {
  readonly root: Node;
  private readonly nodes = new Map<number, Node>();
  private readonly note: Note;

  constructor(note: Note) {
    this.note = note;
    this.root = new Node(rootNodeId);
    this.root.lookups = 1;
    this.nodes.set(rootNodeId, this.root);
  }

  get size(): number {
    return this.nodes.size;
  }

  /** @throws {FuseError} ESTALE for a number that the kernel should not know. */
  node(id: number): Node {
    return this.nodes.get(id) ?? refuse('ESTALE');
  }

  find(id: number): Node | undefined {
    return this.nodes.get(id);
  }

  /** The path of a node, without a leading slash. @throws {FuseError} ENOENT when it has no name any more. */
  pathOf(node: Node): string {
    if (node === this.root) return '';
    const names: string[] = [];
    for (let at = node; at !== this.root;) {
      const link = at.links[0];
      if (link === undefined || names.length > 4096) return refuse('ENOENT', 'the file has been deleted');
      names.push(link.name);
      at = link.parent;
    }
    return names.reverse().join('/');
  }

  childPath(parent: Node, name: string): string {
    const path = this.pathOf(parent);
    return path === '' ? name : `${path}/${name}`;
  }

  /** Counts a look-up: the kernel is about to be told that `name` in `parent` is the inode `id`. */
  link(parent: Node, name: string, id: number): Node {
    const node = this.attach(parent, name, id);
    node.lookups++;
    this.note(['look', id, parent.id, name]);
    return node;
  }

  /** Counts a look-up of an inode that has no name (yet). */
  linkNameless(id: number): Node {
    const node = this.ensure(id);
    node.lookups++;
    this.note(['look', id, 0, '']);
    return node;
  }

  /** Knows a name without counting a look-up. */
  attach(parent: Node, name: string, id: number): Node {
    const node = this.ensure(id);
    const before = parent.children.get(name);
    if (before !== node) {
      if (before !== undefined) detach(before, parent, name);
      parent.children.set(name, node);
      node.links.unshift({ parent, name });
    } else if (node.links[0]?.parent !== parent || node.links[0].name !== name) {
      detach(node, parent, name);
      parent.children.set(name, node);
      node.links.unshift({ parent, name });
    }
    return node;
  }

  /** A name is gone. @returns the node it led to, if it is known. */
  unlink(parent: Node, name: string): Node | undefined {
    const node = parent.children.get(name);
    parent.listing?.names.delete(name);
    if (node === undefined) return undefined;
    detach(node, parent, name);
    this.note(['unlink', parent.id, name]);
    return node;
  }

  /** A name has moved. What was known under the new one must have been unlinked before. */
  rename(parent: Node, name: string, newParent: Node, newName: string): void {
    const node = this.unlink(parent, name);
    newParent.listing?.names.add(newName);
    if (node === undefined) return;
    this.attach(newParent, newName, node.id);
    this.note(['name', node.id, newParent.id, newName]);
  }

  /** Two names have changed places. */
  exchange(parent: Node, name: string, otherParent: Node, otherName: string): void {
    const [node, other] = [this.unlink(parent, name), this.unlink(otherParent, otherName)];
    const move = (moved: Node | undefined, to: Node, as: string): void => {
      to.listing?.names.add(as);
      if (moved === undefined) return;
      this.attach(to, as, moved.id);
      this.note(['name', moved.id, to.id, as]);
    };
    move(node, otherParent, otherName);
    move(other, parent, name);
  }

  /** The kernel gives look-ups back. */
  forget(id: number, count: number): void {
    const node = this.nodes.get(id);
    if (node === undefined || node === this.root) return;
    node.lookups -= count;
    this.note(['forget', id, count]);
    this.reap(node);
  }

  /** Drops a node that nobody needs: not known to the kernel, not open, without known children. */
  reap(node: Node): void {
    if (node === this.root || node.lookups > 0 || node.openCount > 0 || node.children.size > 0) return;
    this.nodes.delete(node.id);
    const { links } = node;
    node.links = [];
    for (const { parent, name } of links) {
      if (parent.children.get(name) !== node) continue;
      parent.children.delete(name);
      this.reap(parent);
    }
  }

  /** Everything that a successor needs to know of inodes and names, parents before children. */
  *records(): Generator<JournalRecord> {
    const seen = new Set<Node>([this.root]);
    const waiting: Node[] = [this.root];
    for (let parent = waiting.pop(); parent !== undefined; parent = waiting.pop()) {
      for (const [name, node] of parent.children) {
        yield ['name', node.id, parent.id, name];
        if (seen.has(node)) continue;
        seen.add(node);
        waiting.push(node);
      }
    }
    for (const node of this.nodes.values()) yield ['count', node.id, node.lookups];
  }

  /** Takes back one record of a predecessor. @returns false for a record that is not about inodes. */
  replay(record: JournalRecord): boolean {
    const [kind, first, second, third] = record;
    const id = Number(first);
    switch (kind) {
      case 'look': {
        const node = this.ensure(id);
        node.lookups++;
        if (Number(second) !== 0) this.attach(this.ensure(Number(second)), String(third), id);
        return true;
      }
      case 'name':
        this.attach(this.ensure(Number(second)), String(third), id);
        return true;
      case 'unlink': {
        const parent = this.ensure(id);
        const node = parent.children.get(String(second));
        if (node !== undefined) detach(node, parent, String(second));
        return true;
      }
      case 'count':
        this.ensure(id).lookups = Number(second);
        return true;
      case 'forget': {
        const node = this.nodes.get(id);
        if (node === undefined) return true;
        node.lookups -= Number(second);
        this.reap(node);
        return true;
      }
      default:
        return false;
    }
  }

  /** After the last `replay`: drops what nobody needs. */
  settle(): void {
    for (const node of [...this.nodes.values()]) this.reap(node);
  }

  private ensure(id: number): Node {
    let node = this.nodes.get(id);
    if (node === undefined) {
      node = new Node(id);
      this.nodes.set(id, node);
    }
    return node;
  }
}

function detach(node: Node, parent: Node, name: string): void {
  if (parent.children.get(name) === node) parent.children.delete(name);
  node.links = node.links.filter((link) => link.parent !== parent || link.name !== name);
}
