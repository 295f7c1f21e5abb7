import type { Caller } from '../core/access.ts';

/** An object of the model. */
export interface ModelNode {
  readonly kind: 'file' | 'dir' | 'link';
  mode: number;
  user: string;
  group: string;
  nlink: number;
  parent: ModelNode | undefined;
  readonly children: Map<string, ModelNode>;
  readonly target: string;
}

type Outcome = string;
const done: Outcome = 'done';

/**
 * What POSIX (as Linux reads it) says of a tree, written as plainly as possible and without looking at the MRC: each call
 * changes the tree and returns `done`, or changes nothing and returns the errno's name. Symlinks are not followed.
 */
export class PosixModel {
  readonly root: ModelNode;

  constructor() {
    this.root = node('dir', 0o777, 'root', 'root', undefined);
    this.root.nlink = 2;
  }

  mkdir(caller: Caller, path: string, mode: number): Outcome {
    return this.make(caller, path, (parent) => {
      const made = node('dir', mode | (parent.mode & 0o2000), caller.user, this.groupFor(caller, parent), parent);
      made.nlink = 2;
      parent.nlink++;
      return made;
    });
  }

  symlink(caller: Caller, target: string, path: string): Outcome {
    return this.make(caller, path, (parent) =>
      node('link', 0o777, caller.user, this.groupFor(caller, parent), parent, target),
    );
  }

  /** open(O_CREAT | O_RDWR), with O_EXCL when `isExclusive`. */
  open(caller: Caller, path: string, mode: number, isExclusive: boolean): Outcome {
    const found = this.walk(caller, path);
    if (typeof found === 'string') return found;
    if (found.node !== undefined) {
      if (isExclusive) return 'EEXIST';
      if (found.node.kind !== 'file') return 'EISDIR';
      return may(caller, found.node, 6) ? done : 'EACCES';
    }
    return this.make(caller, path, (parent) => node('file', mode, caller.user, this.groupFor(caller, parent), parent));
  }

  link(caller: Caller, from: string, to: string): Outcome {
    const source = this.walk(caller, from);
    if (typeof source === 'string') return source;
    if (source.node === undefined) return 'ENOENT';
    const linked = source.node;
    const target = this.walk(caller, to);
    if (typeof target === 'string') return target;
    if (target.node !== undefined) return 'EEXIST';
    if (linked.kind === 'dir') return 'EPERM';
    if (!may(caller, target.parent, 3)) return 'EACCES';
    target.parent.children.set(target.name, linked);
    linked.nlink++;
    return done;
  }

  unlink(caller: Caller, path: string): Outcome {
    const found = this.walk(caller, path);
    if (typeof found === 'string') return found;
    if (found.node === undefined) return 'ENOENT';
    const refused = removable(caller, found.parent, found.node);
    if (refused !== undefined) return refused;
    if (found.node.kind === 'dir') return 'EISDIR';
    found.parent.children.delete(found.name);
    found.node.nlink--;
    return done;
  }

  rmdir(caller: Caller, path: string): Outcome {
    const found = this.walk(caller, path);
    if (typeof found === 'string') return found;
    if (found.node === undefined) return 'ENOENT';
    const refused = removable(caller, found.parent, found.node);
    if (refused !== undefined) return refused;
    if (found.node.kind !== 'dir') return 'ENOTDIR';
    if (found.node.children.size > 0) return 'ENOTEMPTY';
    found.parent.children.delete(found.name);
    found.parent.nlink--;
    return done;
  }

  rename(caller: Caller, from: string, to: string): Outcome {
    const source = this.walk(caller, from);
    if (typeof source === 'string') return source;
    const target = this.walk(caller, to);
    if (typeof target === 'string') return target;
    const moved = source.node;
    if (moved === undefined) return 'ENOENT';
    if (isBelow(target.parent, moved)) return 'EINVAL';
    if (target.node !== undefined && isBelow(source.parent, target.node)) return 'ENOTEMPTY';
    if (target.node === moved) return done;
    const refused =
      removable(caller, source.parent, moved) ?? this.replaceRefusal(caller, source.parent, moved, target);
    if (refused !== undefined) return refused;
    if (target.node !== undefined) {
      if (target.node.kind === 'dir') target.parent.nlink--;
      else target.node.nlink--;
    }
    source.parent.children.delete(source.name);
    target.parent.children.set(target.name, moved);
    if (moved.kind === 'dir') {
      source.parent.nlink--;
      target.parent.nlink++;
      moved.parent = target.parent;
    }
    return done;
  }

  chmod(caller: Caller, path: string, mode: number): Outcome {
    const found = this.walk(caller, path);
    if (typeof found === 'string') return found;
    if (found.node === undefined) return 'ENOENT';
    if (!caller.isSuper && found.node.user !== caller.user) return 'EPERM';
    if (found.node.kind === 'link') return 'EOPNOTSUPP';
    const keepsSetgid = caller.isSuper || caller.groups.includes(found.node.group);
    found.node.mode = keepsSetgid ? mode : mode & ~0o2000;
    return done;
  }

  chown(caller: Caller, path: string, user: string): Outcome {
    const found = this.walk(caller, path);
    if (typeof found === 'string') return found;
    if (found.node === undefined) return 'ENOENT';
    if (!caller.isSuper && (found.node.user !== caller.user || user !== found.node.user)) return 'EPERM';
    found.node.user = user;
    if (found.node.kind !== 'dir') {
      found.node.mode &= ~0o4000;
      if ((found.node.mode & 0o010) !== 0) found.node.mode &= ~0o2000;
    }
    return done;
  }

  /** `path mode owner group nlink` of everything, sorted. */
  dump(): string[] {
    const lines: string[] = [];
    const visit = (path: string, at: ModelNode): void => {
      lines.push(`${path} ${at.kind} ${at.mode.toString(8)} ${at.user} ${at.group} ${at.nlink} ${at.target}`);
      for (const [name, child] of at.children) visit(`${path}/${name}`, child);
    };
    visit('', this.root);
    return lines.sort();
  }

  private replaceRefusal(
    caller: Caller,
    from: ModelNode,
    moved: ModelNode,
    target: { parent: ModelNode; node: ModelNode | undefined },
  ): Outcome | undefined {
    if (target.node === undefined) {
      if (!may(caller, target.parent, 3)) return 'EACCES';
    } else {
      const refused = removable(caller, target.parent, target.node);
      if (refused !== undefined) return refused;
    }
    if (moved.kind === 'dir' && from !== target.parent && !may(caller, moved, 2)) return 'EACCES';
    if (target.node === undefined) return undefined;
    if (moved.kind === 'dir' && target.node.kind !== 'dir') return 'ENOTDIR';
    if (moved.kind !== 'dir' && target.node.kind === 'dir') return 'EISDIR';
    return target.node.children.size > 0 ? 'ENOTEMPTY' : undefined;
  }

  private make(caller: Caller, path: string, build: (parent: ModelNode) => ModelNode): Outcome {
    const found = this.walk(caller, path);
    if (typeof found === 'string') return found;
    if (found.node !== undefined) return 'EEXIST';
    if (!may(caller, found.parent, 3)) return 'EACCES';
    found.parent.children.set(found.name, build(found.parent));
    return done;
  }

  private groupFor(caller: Caller, parent: ModelNode): string {
    return (parent.mode & 0o2000) !== 0 ? parent.group : (caller.groups[0] ?? '');
  }

  private walk(
    caller: Caller,
    path: string,
  ): Outcome | { parent: ModelNode; name: string; node: ModelNode | undefined } {
    const names = path.split('/');
    const name = names.pop() ?? '';
    let at = this.root;
    for (const step of names) {
      if (!may(caller, at, 1)) return 'EACCES';
      const next = at.children.get(step);
      if (next === undefined) return 'ENOENT';
      if (next.kind !== 'dir') return 'ENOTDIR';
      at = next;
    }
    if (!may(caller, at, 1)) return 'EACCES';
    return { parent: at, name, node: at.children.get(name) };
  }
}

function node(
  kind: ModelNode['kind'],
  mode: number,
  user: string,
  group: string,
  parent: ModelNode | undefined,
  target = '',
): ModelNode {
  return { kind, mode, user, group, nlink: 1, parent, children: new Map(), target };
}

function may(caller: Caller, at: ModelNode, wanted: number): boolean {
  if (caller.isSuper) return true;
  const shift = at.user === caller.user ? 6 : caller.groups.includes(at.group) ? 3 : 0;
  return ((at.mode >> shift) & wanted) === wanted;
}

function removable(caller: Caller, parent: ModelNode, victim: ModelNode): Outcome | undefined {
  if (!may(caller, parent, 3)) return 'EACCES';
  const isSticky = (parent.mode & 0o1000) !== 0 && !caller.isSuper;
  return isSticky && victim.user !== caller.user && parent.user !== caller.user ? 'EPERM' : undefined;
}

function isBelow(at: ModelNode, ancestor: ModelNode): boolean {
  for (let up: ModelNode | undefined = at; up !== undefined; up = up.parent) if (up === ancestor) return true;
  return false;
}
