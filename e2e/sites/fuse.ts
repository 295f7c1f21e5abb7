/** Breaking FUSE connections that belong to machines of ours. */
import { readFileSync, writeFileSync } from 'node:fs';

/**
 * Breaks the FUSE connections mounted in the mount namespaces of `pids`: who waits for a dead FUSE server sleeps
 * uninterruptibly and would survive SIGKILL. What is mounted in this process's own namespace is left alone: some
 * processes of an instance share that namespace, and those mounts are not the instance's.
 */
export function abortFuse(pids: Iterable<number>): void {
  const own = readMounts('self');
  for (const pid of pids) {
    for (const minor of foreignFuseMounts(readMounts(pid), own)) {
      try {
        writeFileSync(`/proc/${pid}/root/sys/fs/fuse/connections/${minor}/abort`, '1');
      } catch {
        // The connection, or the process, is gone already.
      }
    }
  }
}

/**
 * Minor device numbers of the FUSE mounts in one mount table (the text of `/proc/PID/mountinfo`, proc(5)) that are not
 * in the other.
 */
export function foreignFuseMounts(theirs: string, ours: string): string[] {
  const known = new Set(fuseMinors(ours));
  return fuseMinors(theirs).filter((minor) => !known.has(minor));
}

function fuseMinors(mounts: string): string[] {
  return [...mounts.matchAll(/^\d+ \d+ 0:(\d+) .* - fuse(?:\.\S+)? /gm)].map(([, minor]) => minor ?? '');
}

function readMounts(pid: number | 'self'): string {
  try {
    return readFileSync(`/proc/${pid}/mountinfo`, 'utf8');
  } catch {
    return '';
  }
}
