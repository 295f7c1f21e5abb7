/** Declarations of `xos site`. */
import { type Area, defineCommand } from '../../frame/command.ts';
import { clusterOptions, dryRunOption, duration, flag, optional, outputOption, required, waitOptions, word } from '../../frame/options.ts'; // prettier-ignore

const site = { site: required('Name of the Site') };
const change = { ...clusterOptions, ...dryRunOption };

const list = defineCommand({
  path: 'site list',
  about: 'List this site and its peers',
  args: {},
  options: { ...clusterOptions, ...outputOption },
  examples: [{ does: 'which peers answer', line: 'site list' }],
  load: async () => (await import('./show.ts')).list,
});

const show = defineCommand({
  path: 'site show',
  about: 'Show one site, and what to do next',
  args: { site: optional('Name of the Site; default: the local one') },
  options: { ...clusterOptions, ...outputOption },
  examples: [
    { does: 'this site, with the fingerprint of its roots', line: 'site show' },
    { does: 'a peer', line: 'site show lyon' },
  ],
  load: async () => (await import('./show.ts')).show,
});

const invite = defineCommand({
  path: 'site invite',
  about: 'Let another site become a peer, once',
  details:
    'Prints an invitation, which the owner of the other site gives to xos site join. It works once, for a site of this name, until it is over: send it by a way that others do not read.',
  args: { site: required('What the other site calls itself') },
  options: { expires: duration('How long it is good', '1h'), ...clusterOptions },
  examples: [{ does: 'into a file, to be sent', line: 'site invite lyon > invitation' }],
  load: async () => (await import('./invite.ts')).invite,
});

const join = defineCommand({
  path: 'site join',
  about: 'Become a peer of the site that gave an invitation',
  details:
    'Both sites get a Site object of the other. Compare the fingerprint that is shown with what the other owner sees in xos site show; --fingerprint does it without a question.',
  args: { file: required('File with the invitation; - reads stdin', 'file') },
  options: {
    fingerprint: word('Fingerprint that the roots of the other site must have (SHA-256)', 'SHA256'),
    yes: flag('Do not ask'),
    ...clusterOptions,
    ...waitOptions,
  },
  examples: [{ does: 'and wait until the sites speak to each other', line: 'site join invitation --yes --wait' }],
  load: async () => (await import('./join.ts')).join,
});

const cut = defineCommand({
  path: 'site cut',
  about: 'Cut a peer off at once: nothing is sent to it or taken from it',
  args: site,
  options: change,
  examples: [{ does: 'until it is opened again', line: 'site cut lyon' }],
  load: async () => (await import('./change.ts')).cut,
});

const open = defineCommand({
  path: 'site open',
  about: 'Speak again to a peer that was cut off',
  args: site,
  options: change,
  examples: [{ does: 'after a cut', line: 'site open lyon' }],
  load: async () => (await import('./change.ts')).open,
});

const leave = defineCommand({
  path: 'site leave',
  about: 'Forget a peer: it and this site are strangers again',
  args: site,
  options: change,
  examples: [{ does: 'at once; joining anew takes an invitation', line: 'site leave lyon' }],
  load: async () => (await import('./change.ts')).leave,
});

/** `xos site`. */
export const siteArea: Area = {
  group: { path: 'site', about: 'Sites: this cluster and its peers' },
  commands: [list, show, invite, join, cut, open, leave],
};
