/** Declarations of `xos vo`. */
import { type Area, defineCommand } from '../../frame/command.ts';
import {
  choice,
  clusterOptions,
  dryRunOption,
  flag,
  optional,
  outputOption,
  required,
  seconds,
  several,
  texts,
  waitOptions,
  word,
  words,
} from '../../frame/options.ts';

const nameArgument = { name: required('Name of the virtual organization', 'vo') };
const change = { ...clusterOptions, ...outputOption, ...dryRunOption };
const lifecycle = { ...change, ...waitOptions };

/** Fields of the spec that create and edit share. */
const fields = {
  description: word('What it is for', 'TEXT'),
  enrolment: choice('How someone becomes a member', 'MODE', ['Closed', 'Approval', 'Open'], undefined),
  acceptableUse: word('File with the text that members must accept; - reads stdin', 'FILE', { complete: 'file' }),
  isolation: choice(
    'How far members are kept apart at least',
    'LEVEL',
    ['Namespace', 'UserNamespace', 'Sandbox', 'DedicatedNode'],
    undefined,
  ),
  cpu: word('CPU that its pods may request on each site, for example 64', 'QUANTITY'),
  memory: word('Memory that its pods may request on each site, for example 256Gi', 'QUANTITY'),
  storage: word('Storage that its volumes may request on each site, for example 10Ti', 'QUANTITY'),
  secondAdministrator: flag('Make destructive acts need a second administrator; can not be taken back'),
  delay: seconds('How long destructive acts can be withdrawn, for example 1d; can only become longer'),
};

const create = defineCommand({
  path: 'vo create',
  about: 'Form a virtual organization',
  details:
    'It begins in the state Forming: nothing runs until its administrators activate it and the owner of the site approves it.',
  args: { name: required('Name; makes the namespace vo-NAME') },
  options: {
    ...fields,
    administrator: texts('Who owns it, as ISSUER#SUBJECT; default: you', 'PRINCIPAL'),
    group: words('Group to begin with, for example analysis/higgs; parents are added', 'PATH'),
    uidMode: choice('Which user number pods see; can not change', 'MODE', ['Global', 'Local'], 'Global'),
    activate: flag('Make it Operational at once'),
    ...lifecycle,
  },
  examples: [
    { does: 'form one that you own', line: 'vo create physics --description "Searches for new particles"' },
    {
      does: 'owned by two people, which members join by asking',
      line: 'vo create physics --administrator https://login.example.org#alice --administrator kubernetes:rennes#bob --enrolment Approval',
    },
  ],
  load: async () => (await import('./create.ts')).create,
});

const list = defineCommand({
  path: 'vo list',
  about: 'List virtual organizations',
  details: 'For those who may see all of them. Members see theirs with xos whoami, and each with xos vo show.',
  args: {},
  options: { ...clusterOptions, ...outputOption },
  examples: [
    { does: 'what there is', line: 'vo list' },
    { does: 'names only, for scripts', line: 'vo list -o name' },
  ],
  load: async () => (await import('./show.ts')).list,
});

const show = defineCommand({
  path: 'vo show',
  about: 'Show one virtual organization, and what to do next',
  args: nameArgument,
  options: { ...clusterOptions, ...outputOption },
  examples: [{ does: 'where it stands', line: 'vo show physics' }],
  load: async () => (await import('./show.ts')).show,
});

const edit = defineCommand({
  path: 'vo edit',
  about: 'Change a virtual organization',
  details: 'What no option names stays. For everything else there is kubectl edit vo NAME.',
  args: nameArgument,
  options: {
    ...fields,
    addAdministrator: texts('Name another owner, as ISSUER#SUBJECT', 'PRINCIPAL'),
    removeAdministrator: texts('Remove an owner, or ask for it where governance wants approval', 'PRINCIPAL'),
    ...change,
  },
  examples: [
    { does: 'let people ask to join', line: 'vo edit physics --enrolment Approval' },
    { does: 'name a second owner', line: 'vo edit physics --add-administrator https://login.example.org#bob' },
  ],
  load: async () => (await import('./edit.ts')).edit,
});

const addGroup = defineCommand({
  path: 'vo add-group',
  about: 'Add groups; missing parents are added too',
  details: 'Being in a group never means being in its parent or child.',
  args: { name: nameArgument.name, groups: several('Paths of groups, for example analysis/higgs') },
  options: {
    description: word('What the groups are for', 'TEXT'),
    expires: word('When they end: a date such as 2027-01-31, a time, or a duration such as 90d', 'WHEN'),
    ...change,
  },
  examples: [{ does: 'a group with a subgroup', line: 'vo add-group physics analysis/higgs' }],
  load: async () => (await import('./groups.ts')).addGroups,
});

const removeGroup = defineCommand({
  path: 'vo remove-group',
  about: 'Remove groups',
  details: 'Their ids are never given to other groups.',
  args: { name: nameArgument.name, groups: several('Paths of groups', 'group') },
  options: { recursive: flag('Also remove the groups below them'), ...change },
  examples: [{ does: 'a group with all below it', line: 'vo remove-group physics analysis --recursive' }],
  load: async () => (await import('./groups.ts')).removeGroups,
});

const setRole = defineCommand({
  path: 'vo set-role',
  about: 'Define a role, or change what its holders may do',
  details: 'administrator, member and observer always exist and can not be defined anew.',
  args: { name: nameArgument.name, role: required('Name of the role', 'role') },
  options: { capability: words('What its holders may do, for example jobs.manage', 'CAPABILITY'), ...change },
  examples: [
    { does: 'operators manage the jobs of others', line: 'vo set-role physics operator --capability jobs.manage' },
  ],
  load: async () => (await import('./groups.ts')).setRole,
});

const removeRole = defineCommand({
  path: 'vo remove-role',
  about: 'Remove a role',
  args: { name: nameArgument.name, role: required('Name of the role', 'role') },
  options: change,
  examples: [{ does: 'nobody is operator any more', line: 'vo remove-role physics operator' }],
  load: async () => (await import('./groups.ts')).removeRole,
});

const approve = defineCommand({
  path: 'vo approve',
  about: 'As owner of the site, let a virtual organization use it',
  details:
    'Adds it to acceptedVirtualOrganizations of the local Site, or changes its limits there. With --withdraw it is cut: nothing new starts and what runs is ended; ids and data are kept.',
  args: nameArgument,
  options: {
    cpu: word('CPU that its pods may request here together', 'QUANTITY'),
    memory: word('Memory that its pods may request here together', 'QUANTITY'),
    storage: word('Storage that its volumes may request here together', 'QUANTITY'),
    home: word('Peer that it was formed at; when it was formed here, leave it out', 'SITE'),
    withdraw: flag('Cut it instead'),
    ...clusterOptions,
    ...dryRunOption,
    ...waitOptions,
  },
  examples: [
    { does: 'with limits', line: 'vo approve physics --cpu 64 --memory 256Gi' },
    { does: 'one that was formed at another site', line: 'vo approve physics --home rennes' },
    { does: 'cut it', line: 'vo approve physics --withdraw' },
  ],
  load: async () => (await import('./approve.ts')).approve,
});

const activate = defineCommand({
  path: 'vo activate',
  about: 'Begin: from Forming to Operational',
  args: nameArgument,
  options: lifecycle,
  examples: [{ does: 'and wait until members can work', line: 'vo activate physics --wait' }],
  load: async () => (await import('./lifecycle.ts')).activate,
});

const freeze = defineCommand({
  path: 'vo freeze',
  about: 'Let nothing new start; what runs goes on',
  args: nameArgument,
  options: lifecycle,
  examples: [{ does: 'and wait until it is in force', line: 'vo freeze physics --wait' }],
  load: async () => (await import('./lifecycle.ts')).freeze,
});

const resume = defineCommand({
  path: 'vo resume',
  about: 'Go on after a freeze',
  args: nameArgument,
  options: lifecycle,
  examples: [{ does: 'and wait until members can work', line: 'vo resume physics --wait' }],
  load: async () => (await import('./lifecycle.ts')).resume,
});

const dissolve = defineCommand({
  path: 'vo dissolve',
  about: 'End a virtual organization for good',
  details:
    'Revokes every credential, ends every pod, erases or exports the data, and leaves a receipt of what is gone. Where governance says so, a second administrator approves it with --approve, and it can be withdrawn with --withdraw until it begins.',
  args: nameArgument,
  options: {
    data: choice('What becomes of its data', 'WHAT', ['Erase', 'Export'], undefined),
    yes: flag('Do not ask back'),
    approve: flag('Approve what another administrator asked for'),
    withdraw: flag('Withdraw what was asked for'),
    ...lifecycle,
  },
  examples: [
    { does: 'see whether you may, without doing it', line: 'vo dissolve physics --data Erase --dry-run' },
    { does: 'set the data aside for the owner of the site', line: 'vo dissolve physics --data Export --wait' },
    { does: 'as the second administrator', line: 'vo dissolve physics --approve' },
  ],
  load: async () => (await import('./dissolve.ts')).dissolve,
});

const exportVo = defineCommand({
  path: 'vo export',
  about: 'Print a virtual organization as YAML that vo import takes',
  details: 'Holds what people decide: no ids, no state of the cluster, no promises that only members can make.',
  args: nameArgument,
  options: { members: flag('Also its memberships'), ...clusterOptions },
  examples: [{ does: 'with its members', line: 'vo export physics --members > physics.yaml' }],
  load: async () => (await import('./manifests.ts')).exportOrganization,
});

const importVo = defineCommand({
  path: 'vo import',
  about: 'Make or change virtual organizations and memberships from YAML',
  details:
    'Each field that the file names becomes as in the file, lists as a whole; other fields stay. Importing an export changes nothing.',
  args: { file: required('File; - reads stdin', 'file') },
  options: { ...clusterOptions, ...dryRunOption },
  examples: [
    { does: 'see what the server would say', line: 'vo import physics.yaml --dry-run' },
    { does: 'from another cluster', line: 'vo import - < physics.yaml' },
  ],
  load: async () => (await import('./manifests.ts')).importOrganizations,
});

const joinOptions = {
  site: word('Site whose gateway to ask; default: the only one you are logged in at', 'SITE'),
  accept: word('Accept the acceptable use with this digest, without being asked', 'DIGEST'),
};

const join = defineCommand({
  path: 'vo join',
  about: 'Ask to become a member',
  details: 'Needs xos login first. Shows the acceptable use, if there is one, and asks whether you accept it.',
  args: { name: required('Name of the virtual organization') },
  options: { handle: word('Wished word in your user name, u-HANDLE-UID', 'HANDLE'), ...joinOptions },
  examples: [{ does: 'ask', line: 'vo join physics' }],
  load: async () => (await import('./join.ts')).join,
});

const acceptUse = defineCommand({
  path: 'vo accept-use',
  about: 'Accept the acceptable use that is in force',
  args: { name: optional('Name of the virtual organization; default: that of the context', 'vo') },
  options: { ...joinOptions, context: clusterOptions.context, kubeconfig: clusterOptions.kubeconfig },
  examples: [{ does: 'read it and decide', line: 'vo accept-use physics' }],
  load: async () => (await import('./join.ts')).acceptUse,
});

/** Virtual organizations. */
export const voArea: Area = {
  group: { path: 'vo', about: 'Virtual organizations: form, change, join, end' },
  commands: [
    create,
    list,
    show,
    edit,
    addGroup,
    removeGroup,
    setRole,
    removeRole,
    approve,
    activate,
    freeze,
    resume,
    dissolve,
    exportVo,
    importVo,
    join,
    acceptUse,
  ],
};
