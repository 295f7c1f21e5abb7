/** The root of a node: its own /etc, /var, /run, /tmp; the programs of this machine, read-only. */
import { existsSync, lstatSync, mkdirSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';

import { writeFileAtomic } from './files.ts';

/** Where a node finds the pinned programs. */
export const nodePrograms = '/opt/xtreemos/bin';
/** Where the container runtime finds network plug-ins. */
export const cniPrograms = '/opt/cni/bin';

const systemFolders = ['usr', 'bin', 'sbin', 'lib', 'lib32', 'lib64', 'libx32'];
const ownFolders = [
  'dev', 'proc', 'sys', 'run', 'tmp', 'root', 'home', 'mnt', 'opt/xtreemos/bin', 'opt/cni/bin', 'etc/cni/net.d',
  'etc/containerd', 'etc/kubernetes', 'var/lib/kubelet', 'var/lib/containerd', 'var/lib/cni', 'var/log/pods',
  'var/log/containers', 'var/tmp', '.old',
]; // prettier-ignore

/** Makes the folders of a node's root and the few files of /etc that programs look up. Safe to repeat. */
export function prepareNodeRoot(root: string, nodeName: string): void {
  for (const folder of ownFolders) mkdirSync(join(root, folder), { recursive: true });
  const files: Record<string, string> = {
    'etc/hostname': `${nodeName}\n`,
    'etc/hosts': `127.0.0.1 localhost\n127.0.1.1 ${nodeName}\n`,
    // Nothing outside the sites is looked up: CoreDNS answers for the cluster, names beyond it don't exist.
    'etc/resolv.conf': '# no name servers: sites have no way out\n',
    'etc/passwd': 'root:x:0:0:root:/root:/bin/sh\n',
    'etc/group': 'root:x:0:\n',
    'etc/nsswitch.conf': 'passwd: files\ngroup: files\nhosts: files dns\n',
    'etc/machine-id': `${Buffer.from(nodeName.padEnd(16, '.')).toString('hex').slice(0, 32)}\n`,
  };
  for (const [path, content] of Object.entries(files)) {
    if (!existsSync(join(root, path))) writeFileAtomic(join(root, path), content, 0o644);
  }
}

/**
 * A shell script that turns `$1` into the root of the calling process' mount namespace.
 * @param programs - folder in the node → folder on this machine, bound read-only.
 */
export function nodeRootScript(programs: Readonly<Record<string, string>>): string {
  const system = systemFolders.filter((name) => existsSync(`/${name}`));
  const links = system.filter((name) => lstatSync(`/${name}`).isSymbolicLink());
  const folders = system.filter((name) => !links.includes(name) && statSync(`/${name}`).isDirectory());
  const bind = (source: string, target: string): string[] => [
    `mount --bind ${source} "$root${target}"`,
    `mount -o remount,bind,ro "$root${target}"`,
  ];
  return [
    'root=$1',
    // A bind of its own, so that pivot_root has a mount to turn to.
    'mount --bind "$root" "$root"',
    ...links.map((name) => `[ -L "$root/${name}" ] || ln -s ${readlinkSync(`/${name}`)} "$root/${name}"`),
    ...folders.flatMap((name) => [`mkdir -p "$root/${name}"`, ...bind(`/${name}`, `/${name}`)]),
    ...Object.entries(programs).flatMap(([target, source]) => bind(source, target)),
    'mount --rbind /dev "$root/dev"',
    'mount -t proc proc "$root/proc"',
    // A fresh sysfs shows the interfaces of this network namespace; the control groups are the machine's.
    'mount -t sysfs sysfs "$root/sys"',
    'mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"',
    '[ ! -d "$root/sys/fs/fuse/connections" ] || mount -t fusectl fusectl "$root/sys/fs/fuse/connections" || true',
    '[ ! -d "$root/sys/fs/bpf" ] || mount -t bpf bpf "$root/sys/fs/bpf" || true',
    'mount -t tmpfs -o mode=755 tmpfs "$root/run"',
    '[ -e "$root/var/run" ] || ln -s /run "$root/var/run"',
    'cd "$root"',
    'pivot_root . .old',
    'cd /',
    'umount -l /.old',
    // As on an ordinary node: what is mounted on the host, or by a pod with Bidirectional propagation, shows in pods.
    'mount --make-rshared /',
  ].join('\n');
}
