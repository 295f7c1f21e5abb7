/** Declarations of `xos ls` and `xos cp`. */
import { type Area, defineCommand } from '../../frame/command.ts';
import { flag, organizationOptions, required, word } from '../../frame/options.ts';

const image = {
  ...word('Image whose sh, ls, find, head, cat and sha256sum are used', 'IMAGE'),
  fallback: 'busybox:1',
  shownDefault: 'busybox:1',
};
const details =
  'A job of yours mounts the volume meanwhile, so you see and may do there what your jobs do. It needs a node with a little room, and ends with the command.';

const ls = defineCommand({
  path: 'ls',
  about: 'List files on a volume',
  details,
  args: { place: required('Volume, and folder or file on it: VOLUME or VOLUME:PATH', 'volume') },
  options: {
    long: flag('With permissions, owners, sizes and times', { short: 'l' }),
    image,
    ...organizationOptions,
  },
  examples: [{ does: 'a folder of a volume', line: 'ls -l results:2026' }],
  load: async () => (await import('./copy.ts')).list,
});

const cp = defineCommand({
  path: 'cp',
  about: 'Copy files between this machine and a volume',
  details: `${details}

As with cp, a file goes into the target when that is a folder, and else gets its name. A file bears its name once it is whole and its SHA-256 is that of the source. What is there already with the same SHA-256 is not copied again, so a copy that was cut off goes on where it was. Folders without files are left out.`,
  args: { source: required('What is copied: PATH or VOLUME:PATH'), target: required('Where to: VOLUME:PATH or PATH') },
  options: { recursive: flag('Folders with all that is in them', { short: 'r' }), image, ...organizationOptions },
  examples: [
    { does: 'a folder onto a volume', line: 'cp -r ./measurements data:' },
    { does: 'one result to here', line: 'cp results:2026/plot.svg .' },
  ],
  load: async () => (await import('./copy.ts')).copy,
});

/** Files on volumes. */
export const filesArea: Area = { title: 'Files on volumes', commands: [ls, cp] };
