/** Whose Volumes are whose, and which data a claim may name. */
import { homeVolumeOf } from '../volume.ts';
import type { MutatingPolicy, Named, PolicySettings, ResourceRule, Rule, ValidatingPolicy } from './policy.ts';
import { isCaretakerRequest, isMemberRequest, mayActAsAccount, mayManage, requesterVariables } from './requester.ts';
import { isTenant, metadataRules } from './tenants.ts';

const volumeRules = (operations: readonly string[]): ResourceRule[] => [
  { apiGroups: ['xtreemos.io'], apiVersions: ['*'], resources: ['volumes'], operations },
];

/** True for the site itself: the operator, provisioners, binders, and its owner. They decide which data is behind a PersistentVolume. */
const isStorageOfSite: Named = {
  name: 'isStorageOfSite',
  expression: "!variables.isTenant && authorizer.group('').resource('persistentvolumes').check('create').allowed()",
};

/** Fills in the owner of a Volume that a member makes. */
export function volumeDefaults(): MutatingPolicy {
  return {
    name: 'xtreemos-volumes',
    about: 'Writes into Volumes which member makes them.',
    resourceRules: volumeRules(['CREATE']),
    conditions: [{ name: 'is-a-member', expression: isMemberRequest }],
    variables: requesterVariables,
    patches: [
      "variables.ownAccount == '' || has(object.spec.owner) ? [] : [JSONPatch{op: 'add', path: '/spec/owner', value: variables.ownAccount}]",
    ],
  };
}

/** The policies on Volumes and on claims. */
export function volumePolicies({ operatorUser, volumeClass }: PolicySettings): ValidatingPolicy[] {
  const variables: readonly Named[] = [
    ...requesterVariables,
    { name: 'operatorUser', expression: operatorUser },
    { name: 'isTenant', expression: isTenant },
    { name: 'isCaretaker', expression: isCaretakerRequest },
    { name: 'volumeClass', expression: volumeClass },
    isStorageOfSite,
  ];
  return [
    {
      name: 'xtreemos-volumes',
      about:
        'Members make Volumes for themselves only; only they, and administrators of the virtual organization, may change, grant or delete them.',
      resourceRules: volumeRules(['CREATE', 'UPDATE', 'DELETE']),
      variables: [
        ...variables,
        { name: 'stored', expression: "request.operation == 'CREATE' ? object : oldObject" },
        { name: 'account', expression: "variables.stored.spec.?owner.orValue('')" },
      ],
      rules: [...volumeOwnerRules(), ...metadataRules()],
    },
    {
      name: 'xtreemos-claims',
      about:
        'Claims of a virtual organization name no data that is there already: no PersistentVolume and no other claim; snapshots only of Volumes, where the driver asks whose they are.',
      resourceRules: [
        {
          apiGroups: [''],
          apiVersions: ['*'],
          resources: ['persistentvolumeclaims'],
          operations: ['CREATE', 'UPDATE'],
        },
      ],
      variables,
      rules: claimRules(),
    },
    {
      name: 'xtreemos-snapshots',
      about: 'VolumeSnapshots of a virtual organization are of claims, and name no content that is there already.',
      resourceRules: [
        {
          apiGroups: ['snapshot.storage.k8s.io'],
          apiVersions: ['*'],
          resources: ['volumesnapshots'],
          operations: ['CREATE', 'UPDATE'],
        },
      ],
      variables,
      rules: [
        {
          expression: '!variables.isTenant || !has(object.spec.source.volumeSnapshotContentName)',
          messageExpression:
            "'spec.source.volumeSnapshotContentName: of VolumeSnapshot ' + object.metadata.?name.orValue(object.metadata.?generateName.orValue('')) + ' names data that is there already, which only the owner of the site may: name a claim of yours in persistentVolumeClaimName'",
        },
      ],
    },
  ];
}

const isNew = (field: string): string =>
  `has(object.spec.${field}) && (oldObject == null || !has(oldObject.spec.${field}))`;
const copyInstead = 'copy the files in a job that may read them';

/** Our driver gets it, which knows whose the snapshot is; it is one of the same namespace. */
function isSnapshotOfVolume(field: string): string {
  const source = `object.spec.${field}`;
  return [
    "variables.volumeClass != ''",
    "object.spec.?storageClassName.orValue('') == variables.volumeClass",
    `${source}.?apiGroup.orValue('') == 'snapshot.storage.k8s.io'`,
    `${source}.kind == 'VolumeSnapshot'`,
    ...(field === 'dataSourceRef' ? [`${source}.?namespace.orValue(request.namespace) == request.namespace`] : []),
  ].join(' && ');
}

function volumeOwnerRules(): Rule[] {
  return [
    {
      expression: `request.operation == 'DELETE' || variables.isStorageOfSite || !has(object.spec.remote) || oldObject != null && has(oldObject.spec.remote)`,
      messageExpression:
        "'spec.remote: is written by XtreemOS only: leave it out; Volumes of other sites come by themselves where the virtual organization is followed'",
    },
    {
      expression: `request.operation != 'CREATE' || variables.isStorageOfSite || ${mayManage} || variables.account != '' && (${mayActAsAccount})`,
      messageExpression:
        "'spec.owner: ' + (variables.account == '' ? 'is not set' : variables.account + ' is not who asks') + ': make Volumes as a member of the virtual organization (log in with \"xos login\"), and leave spec.owner out'",
    },
    {
      expression: `request.operation != 'CREATE' || variables.isStorageOfSite || ${mayManage} || !has(object.spec.source)`,
      messageExpression:
        "'spec.source: of Volume ' + object.metadata.?name.orValue('') + ' is written for claims only: make a PersistentVolumeClaim that names a VolumeSnapshot in dataSource'",
    },
    {
      expression: `request.operation == 'CREATE' || variables.isCaretaker || variables.isStorageOfSite || variables.ownAccount != '' && variables.ownAccount == variables.account || ${mayManage}`,
      messageExpression:
        "'metadata.name: Volume ' + variables.stored.metadata.name + ' belongs to ' + (variables.account == '' ? 'nobody' : variables.account) + ': only its owner and administrators of the virtual organization may change or delete it'",
    },
  ];
}

/**
 * A claim that names data would get at it without being asked whose it is: only the site names data. Controllers bind claims that are there,
 * and make others from the templates of members.
 */
function claimRules(): Rule[] {
  const text = (field: string): string => `.spec.?${field}.orValue('')`;
  const refused = (field: string, wrong: string, remedy: string): Rule => ({
    expression: `variables.isStorageOfSite || request.operation == 'UPDATE' && variables.isCaretaker || !(${wrong})`,
    messageExpression: `'spec.${field}: of PersistentVolumeClaim ' + object.metadata.?name.orValue(object.metadata.?generateName.orValue('')) + ' names data that is there already, which only the owner of the site may: leave it out; ${remedy}'`,
  });
  const volumeName = text('volumeName');
  return [
    {
      expression: `variables.isStorageOfSite || request.operation == 'UPDATE' || !object.metadata.?name.orValue('').startsWith('${homeVolumeOf('u-')}')`,
      messageExpression:
        "'metadata.name: ' + object.metadata.name + ' is kept for the claim of a home volume: choose another name'",
    },
    refused(
      'volumeName',
      `object${volumeName} != (oldObject == null ? '' : oldObject${volumeName})`,
      'Volumes have claims of their own',
    ),
    refused('selector', isNew('selector'), copyInstead),
    ...['dataSource', 'dataSourceRef'].map((field) =>
      refused(
        field,
        `${isNew(field)} && !(${isSnapshotOfVolume(field)})`,
        `${copyInstead}, or name a VolumeSnapshot and the StorageClass of Volumes`,
      ),
    ),
  ];
}
