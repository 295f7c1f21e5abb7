/** Declarations of `xos volume`. */
import { type Area, defineCommand } from '../../frame/command.ts';
import {
  choice,
  dryRunOption,
  organizationOptions,
  outputOption,
  required,
  several,
  waitOptions,
  whole,
  word,
  words,
} from '../../frame/options.ts';

const volume = required('Name of the volume', 'volume');
const change = { ...dryRunOption, ...waitOptions, ...outputOption, ...organizationOptions };

const create = defineCommand({
  path: 'volume create',
  about: 'Make a volume: files that jobs see under the same names and owners on every node',
  details: 'A member owns what it makes. What is left out gets its default; xos volume show tells all of it.',
  args: { name: required('Name of the volume, and of its PersistentVolumeClaim') },
  options: {
    size: { ...word('How much may be kept on it, for example 10Gi', 'QUANTITY'), fallback: '1Gi', shownDefault: '1Gi' },
    fileSystem: word('FileSystem that keeps it; default: that of the site', 'NAMESPACE/NAME'),
    width: whole('OSDs that one file is spread over', { min: 1, max: 64 }, undefined),
    stripeSize: whole('Size of one stripe, KiB', { min: 1, max: 65_536 }, undefined),
    replication: choice('How copies of files are kept', 'POLICY', ['None', 'ReadOnly', 'Quorum', 'All'], undefined),
    replicas: whole('How many copies of each file there are', { min: 1, max: 16 }, undefined),
    group: word('Group that its root folder belongs to; default: all members', 'PATH', { complete: 'group' }),
    mode: word('Permissions of its root folder, octal; default: 0770', 'MODE'),
    grant: words('Other virtual organizations that may use it', 'VO[:read|write]', { complete: 'vo' }),
    reclaim: choice('What becomes of the files when it is deleted', 'POLICY', ['Retain', 'Delete'], undefined),
    ...change,
  },
  examples: [
    { does: 'and wait until jobs can use it', line: 'volume create results --size 10Gi --wait' },
    {
      does: 'for one group, three copies',
      line: 'volume create raw --group detector --replication Quorum --replicas 3',
    },
  ],
  load: async () => (await import('./create.ts')).create,
});

const list = defineCommand({
  path: 'volume list',
  about: 'List the volumes of a virtual organization',
  args: {},
  options: { ...outputOption, ...organizationOptions },
  examples: [{ does: 'with file systems, copies and grants', line: 'volume list -o wide' }],
  load: async () => (await import('./show.ts')).list,
});

const show = defineCommand({
  path: 'volume show',
  about: 'Show one volume: what is used, whose it is, and why it is not ready',
  args: { volume },
  options: { ...outputOption, ...organizationOptions },
  examples: [{ does: 'where it stands', line: 'volume show results' }],
  load: async () => (await import('./show.ts')).show,
});

const resize = defineCommand({
  path: 'volume resize',
  about: 'Change how much may be kept on a volume',
  details:
    'It grows as far as the quota of the virtual organization lets it, and shrinks down to what is used. Jobs go on.',
  args: { volume, size: required('New size, for example 20Gi') },
  options: change,
  examples: [{ does: 'let it grow', line: 'volume resize results 20Gi --wait' }],
  load: async () => (await import('./change.ts')).resize,
});

const grant = defineCommand({
  path: 'volume grant',
  about: 'Let other virtual organizations use a volume',
  details:
    'Each finds it as a PersistentVolumeClaim called OWNER-VOLUME in its namespace. Without more, they may read.',
  args: { volume, to: several('Virtual organizations: VO, VO:read or VO:write', 'vo') },
  options: change,
  examples: [
    { does: 'to read', line: 'volume grant results chemistry' },
    { does: 'to write', line: 'volume grant results chemistry:write' },
  ],
  load: async () => (await import('./grants.ts')).grant,
});

const revoke = defineCommand({
  path: 'volume revoke',
  about: 'Take back what was granted',
  args: { volume, to: several('Virtual organizations', 'vo') },
  options: change,
  examples: [{ does: 'from one of them', line: 'volume revoke results chemistry' }],
  load: async () => (await import('./grants.ts')).revoke,
});

const remove = defineCommand({
  path: 'volume delete',
  about: 'Delete volumes; whether their files are erased was said when they were made',
  args: { volumes: several('Names of volumes', 'volume') },
  options: { ...dryRunOption, ...waitOptions, ...organizationOptions },
  examples: [{ does: 'see first what becomes of the files', line: 'volume delete results --dry-run' }],
  load: async () => (await import('./change.ts')).remove,
});

/** Volumes. */
export const volumeArea: Area = {
  group: { path: 'volume', about: 'Volumes: make, show, resize, share and delete them' },
  commands: [create, list, show, resize, grant, revoke, remove],
};
