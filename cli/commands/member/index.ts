/** Declarations of `xos member`. */
import { type Area, defineCommand } from '../../frame/command.ts';
import {
  choice,
  dryRunOption,
  flag,
  optional,
  organizationOptions,
  outputOption,
  required,
  several,
  waitOptions,
  word,
  words,
} from '../../frame/options.ts';

const members = { members: several('Names of memberships, or user names (u-…)', 'member') };
const change = { ...organizationOptions, ...dryRunOption, ...waitOptions };

const list = defineCommand({
  path: 'member list',
  about: 'List the members of a virtual organization',
  args: {},
  options: {
    ...organizationOptions,
    allNamespaces: flag('Of every virtual organization', { short: 'A' }),
    state: choice(
      'Only those in this state',
      'STATE',
      ['Requested', 'Active', 'Suspended', 'Expired', 'Banned'],
      undefined,
    ),
    group: word('Only those in this group', 'PATH', { complete: 'group' }),
    ...outputOption,
  },
  examples: [
    { does: 'of one virtual organization', line: 'member list --vo physics' },
    { does: 'who waits for approval, anywhere', line: 'member list -A --state Requested' },
  ],
  load: async () => (await import('./show.ts')).list,
});

const show = defineCommand({
  path: 'member show',
  about: 'Show one member, and what to do next',
  args: { member: required('Name of the membership, or user name (u-…)', 'member') },
  options: { ...organizationOptions, ...outputOption },
  examples: [{ does: 'ids, groups and state', line: 'member show alice --vo physics' }],
  load: async () => (await import('./show.ts')).show,
});

const invite = defineCommand({
  path: 'member invite',
  about: 'Make someone a member',
  details:
    'The membership is Active at once, or as soon as they accept the acceptable use, which they do by xos vo join. The subject is what the issuer calls them: ask them for what xos whoami shows.',
  args: { name: required('Name of the membership, free to choose') },
  options: {
    principal: word('Who they are, as ISSUER#SUBJECT', 'PRINCIPAL'),
    handle: word('Word in the user name, u-HANDLE-UID; default: from the name', 'HANDLE'),
    group: words('Group to be in', 'PATH', { complete: 'group' }),
    role: words('Role to have; default: member', 'ROLE', { complete: 'role' }),
    expires: word('When the membership ends: a date, a time, or a duration such as 90d', 'WHEN'),
    ...change,
  },
  examples: [
    {
      does: 'someone of another organization',
      line: 'member invite alice --vo physics --principal https://login.example.org#alice',
    },
    {
      does: 'for a while, in a group',
      line: 'member invite bob --vo physics --principal kubernetes:rennes#bob --group analysis --expires 90d --wait',
    },
  ],
  load: async () => (await import('./invite.ts')).invite,
});

const approve = defineCommand({
  path: 'member approve',
  about: 'Let those in who asked',
  args: members,
  options: change,
  examples: [{ does: 'two at once', line: 'member approve alice bob --vo physics' }],
  load: async () => (await import('./state.ts')).approve,
});

const suspend = defineCommand({
  path: 'member suspend',
  about: 'Take everything away for now: credentials end, pods are ended',
  args: members,
  options: change,
  examples: [{ does: 'and wait until it is in force', line: 'member suspend alice --vo physics --wait' }],
  load: async () => (await import('./state.ts')).suspend,
});

const resume = defineCommand({
  path: 'member resume',
  about: 'Let a suspended member go on',
  args: members,
  options: change,
  examples: [{ does: 'go on', line: 'member resume alice --vo physics' }],
  load: async () => (await import('./state.ts')).resume,
});

const ban = defineCommand({
  path: 'member ban',
  about: 'Suspend, and let them not ask again',
  details: 'A ban can be lifted to Suspended: xos member suspend.',
  args: members,
  options: change,
  examples: [{ does: 'keep someone out', line: 'member ban mallory --vo physics' }],
  load: async () => (await import('./state.ts')).ban,
});

const remove = defineCommand({
  path: 'member remove',
  about: 'Remove memberships',
  details:
    'Their user ids are never given to anyone else. They may ask to join again, and get another id then; ban keeps them out.',
  args: members,
  options: change,
  examples: [{ does: 'someone who left', line: 'member remove alice --vo physics' }],
  load: async () => (await import('./remove.ts')).remove,
});

const setGroups = defineCommand({
  path: 'member set-groups',
  about: 'Say which groups a member is in',
  details: 'Replaces what was said before. Without a group, the member is in none. A group never implies its parent.',
  args: {
    member: required('Name of the membership, or user name', 'member'),
    groups: { ...several('Paths of groups', 'group'), isRequired: false },
  },
  options: { expires: word('When the member leaves them: a date, a time, or a duration', 'WHEN'), ...change },
  examples: [{ does: 'these two and no others', line: 'member set-groups alice analysis analysis/higgs --vo physics' }],
  load: async () => (await import('./edit.ts')).setGroups,
});

const setRoles = defineCommand({
  path: 'member set-roles',
  about: 'Say which roles a member has',
  details: 'Replaces what was said before. Roles that always exist: administrator, member, observer.',
  args: {
    member: required('Name of the membership, or user name', 'member'),
    roles: several('Names of roles', 'role'),
  },
  options: change,
  examples: [{ does: 'an operator who is a member too', line: 'member set-roles alice member operator --vo physics' }],
  load: async () => (await import('./edit.ts')).setRoles,
});

const expire = defineCommand({
  path: 'member expire',
  about: 'Say when a membership ends',
  args: {
    member: required('Name of the membership, or user name', 'member'),
    when: required('A date such as 2027-01-31, a time, a duration such as 90d, now, or never'),
  },
  options: change,
  examples: [
    { does: 'at the end of a day (UTC)', line: 'member expire alice 2027-01-31 --vo physics' },
    { does: 'without end', line: 'member expire alice never --vo physics' },
  ],
  load: async () => (await import('./edit.ts')).expire,
});

const exportMembers = defineCommand({
  path: 'member export',
  about: 'Print memberships as YAML that member import takes',
  details: 'Holds what people decide: no ids, and no promises that only members can make.',
  args: { members: { ...several('Names of memberships, or user names; default: all', 'member'), isRequired: false } },
  options: organizationOptions,
  examples: [{ does: 'all of them', line: 'member export --vo physics > members.yaml' }],
  load: async () => (await import('./manifests.ts')).exportMembers,
});

const importMembers = defineCommand({
  path: 'member import',
  about: 'Make or change memberships from YAML',
  details:
    'With --vo, they become members of that virtual organization, whichever they were exported from. Importing an export changes nothing.',
  args: { file: optional('File; default: stdin', 'file') },
  options: { ...organizationOptions, ...dryRunOption },
  examples: [
    { does: 'see what the server would say', line: 'member import members.yaml --vo physics --dry-run' },
    { does: 'copy members', line: 'member import members.yaml --vo chemistry' },
  ],
  load: async () => (await import('./manifests.ts')).importMembers,
});

/** Members of virtual organizations. */
export const memberArea: Area = {
  group: { path: 'member', about: 'Members of virtual organizations: invite, approve, suspend, group' },
  commands: [
    list,
    show,
    invite,
    approve,
    suspend,
    resume,
    ban,
    remove,
    setGroups,
    setRoles,
    expire,
    exportMembers,
    importMembers,
  ],
};
