import type { Command } from './command.ts';

/** A command that is loaded only when it is run: a mount's process starts faster without the servers' code. */
export interface CommandEntry {
  readonly names: readonly string[];
  readonly about: string;
  readonly load: () => Promise<Command>;
}

/** Every command of the program. The first name is the short one, the second upstream's. */
export const commands: readonly CommandEntry[] = [
  {
    names: ['up'],
    about: 'Starts a whole installation on this machine: DIR, MRC, OSDs, a volume, a mount',
    load: async () => (await import('./up-command.ts')).upCommand,
  },
  {
    names: ['dir'],
    about: 'Runs a directory service (DIR)',
    load: async () => (await import('./serve-command.ts')).dirCommand,
  },
  {
    names: ['mrc'],
    about: 'Runs a metadata and replica catalogue (MRC)',
    load: async () => (await import('./serve-command.ts')).mrcCommand,
  },
  {
    names: ['osd'],
    about: 'Runs an object storage device (OSD)',
    load: async () => (await import('./serve-command.ts')).osdCommand,
  },
  {
    names: ['mkfs', 'mkfs.xtreemfs'],
    about: 'Makes a volume',
    load: async () => (await import('./volumes-command.ts')).mkfsCommand,
  },
  {
    names: ['lsfs', 'lsfs.xtreemfs'],
    about: 'Lists the volumes of an MRC',
    load: async () => (await import('./volumes-command.ts')).lsfsCommand,
  },
  {
    names: ['rmfs', 'rmfs.xtreemfs'],
    about: 'Removes a volume',
    load: async () => (await import('./volumes-command.ts')).rmfsCommand,
  },
  {
    names: ['mount', 'mount.xtreemfs'],
    about: 'Mounts a volume',
    load: async () => (await import('./mount-command.ts')).mountCommand,
  },
  {
    names: ['umount', 'umount.xtreemfs'],
    about: 'Unmounts a volume',
    load: async () => (await import('./mount-command.ts')).umountCommand,
  },
  {
    names: ['util', 'xtfsutil'],
    about: 'Shows and changes what is kept of a file, a directory or a volume',
    load: async () => (await import('./xtfsutil.ts')).xtfsutilCommand,
  },
  {
    names: ['chstatus', 'xtfs_chstatus'],
    about: 'Shows or sets the status of an OSD',
    load: async () => (await import('./admin-commands.ts')).chstatusCommand,
  },
  {
    names: ['cleanup', 'xtfs_cleanup'],
    about: 'Looks for objects that belong to no file any more',
    load: async () => (await import('./admin-commands.ts')).cleanupCommand,
  },
  {
    names: ['scrub', 'xtfs_scrub'],
    about: 'Reads every object of a volume and names damaged files',
    load: async () => (await import('./scrub-command.ts')).scrubCommand,
  },
  {
    names: ['mrcdbtool', 'xtfs_mrcdbtool'],
    about: "Dumps or restores an MRC's database",
    load: async () => (await import('./admin-commands.ts')).mrcdbtoolCommand,
  },
  {
    names: ['mount-worker'],
    about: 'Serves a mount; started by mount.xtreemfs itself',
    load: async () => (await import('./worker-command.ts')).workerCommand,
  },
];
