import { createHash } from 'node:crypto';
import type { Clock } from '#common/clock.ts';
import { TerminalError } from '#common/errors.ts';
import { builtInRoles } from '#crds/organization.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import { type VOMembership, voMemberships } from '#crds/vo-membership.ts';
import {
  configMaps,
  pods,
  roleBindings,
  roles as roleKind,
  type ServiceAccount,
  serviceAccounts,
} from '#runtime/builtin.ts';
import type { Client, RequestOptions } from '#runtime/contracts.ts';
import { ConflictError, ignoreNotFound } from '#runtime/errors.ts';
import { collectionPath, controllerReference } from '#runtime/kind.ts';
import { formatTime } from '#runtime/conditions.ts';
import type { ObjectKey, OwnerReference, Stored } from '#runtime/types.ts';
import type { MemberIdentity } from './member-view.ts';

/** Label of the ServiceAccounts of members; its value is `true`. */
export const memberLabel = 'xtreemos.io/member';
/**
 * On a VOMembership: until when somebody needs the account. On its ServiceAccount: until when the account was made or kept, which is how whoever
 * asked learns that it is there.
 */
export const untilAnnotation = 'xtreemos.io/account-until';
/** On a ServiceAccount: name of the VOMembership that it is the account of. */
export const membershipAnnotation = 'xtreemos.io/membership';

const rolesAnnotation = 'xtreemos.io/roles';

/** What pods of somebody who may do nothing any more get to end: below the minute that they have at most. */
const podGraceSeconds = 20;

/** The account of a member on this site, as it shall be. */
export interface Account {
  readonly membership: Stored<VOMembership>;
  readonly organization: Stored<VirtualOrganization>;
  readonly identity: MemberIdentity;
  /** RFC 3339. */
  readonly until: string;
}

/**
 * Makes and removes what a member needs to act here: a ServiceAccount, which owns the RoleBindings of its roles and a ConfigMap with lines for
 * `/etc/passwd` and `/etc/group`. Deleting the ServiceAccount therefore removes all of it, and makes every token of it worthless at once.
 */
export class AccountWriter {
  private readonly client: Client;

  constructor(client: Client) {
    this.client = client;
  }

  /**
   * Makes the account, or makes it as it shall be. Safe to repeat; the annotation that tells that all of it is there comes last.
   * @param current - the ServiceAccount that is known, if any.
   */
  async ensure(account: Account, current: Stored<ServiceAccount> | undefined, options: RequestOptions): Promise<void> {
    const annotations = annotationsOf(account);
    const isComplete = current?.metadata.annotations?.[untilAnnotation] !== undefined;
    const isSame = Object.entries(annotations).every(([key, value]) => current?.metadata.annotations?.[key] === value);
    if (!isComplete || !isSame) {
      const made = current ?? (await this.applyServiceAccount(account, annotations, options));
      const owner = { ...controllerReference(serviceAccounts, made), blockOwnerDeletion: false };
      const before = current?.metadata.annotations?.[rolesAnnotation]?.split(',') ?? [];
      const hadGroups = (current?.metadata.annotations?.['xtreemos.io/gids'] ?? '') !== '';
      const roles = rolesOf(account.membership);
      await Promise.all([
        this.applyNames(account, owner, options),
        this.applyGroups(account, owner, hadGroups, options),
        ...roles.map(async (role) => this.applyRole(account, role, owner, options)),
        ...before.filter((role) => !roles.includes(role)).map(async (role) => this.removeRole(account, role, options)),
      ]);
    }
    if (isSame && current?.metadata.annotations?.[untilAnnotation] === account.until) return;
    await this.applyServiceAccount(account, { ...annotations, [untilAnnotation]: account.until }, options);
  }

  /** Removes the account. @returns whether there was one. */
  async remove(key: ObjectKey, options: RequestOptions): Promise<boolean> {
    return (
      (await ignoreNotFound(
        this.client
          .of(serviceAccounts)
          .delete(key, options)
          .then(() => true),
      )) ?? false
    );
  }

  /** Whether a pod of the account exists, also one that is ending. */
  async hasPods({ namespace, name }: ObjectKey, options: RequestOptions): Promise<boolean> {
    const fieldSelector = `spec.serviceAccountName=${name}`;
    const page = await this.client.of(pods).listPage({ ...options, namespace, fieldSelector, limit: 1 });
    return page.items.length > 0;
  }

  /** Asks for the end of every pod of the account: one request, however many there are. */
  async endPods({ namespace, name }: ObjectKey, options: RequestOptions): Promise<void> {
    const query = new URLSearchParams({ fieldSelector: `spec.serviceAccountName=${name}` });
    const body = { apiVersion: 'v1', kind: 'DeleteOptions', gracePeriodSeconds: podGraceSeconds };
    await this.client.raw('DELETE', `${collectionPath(pods, namespace)}?${query.toString()}`, body, options);
  }

  private async applyServiceAccount(
    { membership, identity }: Account,
    annotations: Readonly<Record<string, string>>,
    options: RequestOptions,
  ): Promise<Stored<ServiceAccount>> {
    const owner = { ...controllerReference(voMemberships, membership), blockOwnerDeletion: false };
    return this.client.of(serviceAccounts).apply(
      {
        metadata: {
          name: identity.userName,
          namespace: membership.metadata.namespace,
          labels: { [memberLabel]: 'true' },
          annotations: { ...annotations },
          ownerReferences: [owner],
        },
        automountServiceAccountToken: false,
      },
      options,
    );
  }

  private async applyNames(account: Account, owner: OwnerReference, options: RequestOptions): Promise<void> {
    const { membership, identity } = account;
    const name = `${identity.userName}-account`;
    const { namespace } = membership.metadata;
    const metadata = { name, namespace, labels: { [memberLabel]: 'true' }, ownerReferences: [owner] };
    await this.client.of(configMaps).apply({ metadata, data: namesOf(account) }, options);
  }

  private async applyRole(
    { membership, identity }: Account,
    role: string,
    owner: OwnerReference,
    options: RequestOptions,
  ): Promise<void> {
    const { namespace } = membership.metadata;
    await this.client.of(roleBindings).apply(
      {
        metadata: {
          name: `${identity.userName}-${role}`,
          namespace,
          labels: { [memberLabel]: 'true' },
          ownerReferences: [owner],
        },
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: `xtreemos-vo-${role}` },
        subjects: [
          { kind: 'ServiceAccount', name: identity.userName, ...(namespace === undefined ? {} : { namespace }) },
        ],
      },
      options,
    );
  }

  /**
   * The groups of the member, as a right that admission policies ask for. Without groups there is none.
   * @param hadGroups - whether an account that is there already may have some, which then have to go.
   */
  private async applyGroups(
    account: Account,
    owner: OwnerReference,
    hadGroups: boolean,
    options: RequestOptions,
  ): Promise<void> {
    const { membership, identity } = account;
    const { namespace } = membership.metadata;
    const name = `${identity.userName}-groups`;
    const key = { namespace, name };
    if (identity.gids.length === 0) {
      if (!hadGroups) return;
      await ignoreNotFound(this.client.of(roleBindings).delete(key, options));
      await ignoreNotFound(this.client.of(roleKind).delete(key, options));
      return;
    }
    const metadata = { name, namespace, labels: { [memberLabel]: 'true' }, ownerReferences: [owner] };
    const resourceNames = identity.gids.map(({ gid }) => String(gid));
    const rules = [{ apiGroups: ['xtreemos.io'], resources: ['groups'], resourceNames, verbs: ['use'] }];
    await this.client.of(roleKind).apply({ metadata, rules }, options);
    const subject = {
      kind: 'ServiceAccount',
      name: identity.userName,
      ...(namespace === undefined ? {} : { namespace }),
    };
    const roleRef = { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name };
    await this.client.of(roleBindings).apply({ metadata, roleRef, subjects: [subject] }, options);
  }

  private async removeRole({ membership, identity }: Account, role: string, options: RequestOptions): Promise<void> {
    const key = { namespace: membership.metadata.namespace, name: `${identity.userName}-${role}` };
    await ignoreNotFound(this.client.of(roleBindings).delete(key, options));
  }
}

/** Roles that Kubernetes rights come with. */
function rolesOf({ spec }: VOMembership): string[] {
  return builtInRoles.filter((role) => spec.roles.includes(role));
}

/** What admission policies read of the account. Ids are the issued ones, also where pods see their lower 16 bits. */
function annotationsOf({ membership, identity }: Account): Record<string, string> {
  const { issuer, subject } = membership.spec.principal;
  return {
    'xtreemos.io/uid': String(identity.uid),
    'xtreemos.io/gid': String(identity.gid),
    'xtreemos.io/gids': identity.gids.map(({ gid }) => gid).join(','),
    [membershipAnnotation]: membership.metadata.name,
    'xtreemos.io/issuer-subject-hash': createHash('sha256')
      .update(JSON.stringify([issuer, subject]))
      .digest('hex'),
    [rolesAnnotation]: rolesOf(membership).join(','),
  };
}

/** Lines of passwd(5) and group(5): without them many programs do not start as a user whom the image does not know. */
function namesOf({ organization, identity }: Account): Record<'passwd' | 'group', string> {
  const isLocal = organization.spec.identity.uidMode === 'Local';
  const seen = (id: number): number => (isLocal ? id % 65_536 : id);
  const { userName, uid, gid, gids } = identity;
  const own = `vo-${organization.metadata.name}`;
  const groups = gids.map((each) => `${own}/${each.group}:x:${seen(each.gid)}:${userName}`);
  return {
    passwd: [
      'root:x:0:0:root:/root:/sbin/nologin',
      `${userName}:x:${seen(uid)}:${seen(gid)}:${userName}:/home/${userName}:/bin/sh`,
      'nobody:x:65534:65534:nobody:/:/sbin/nologin',
      '',
    ].join('\n'),
    group: ['root:x:0:', `${own}:x:${seen(gid)}:`, ...groups, 'nogroup:x:65534:', ''].join('\n'),
  };
}

/** Writes of the annotation are rounded up to this, so that a member who works all day costs a write an hour. */
const untilStepMs = 3_600_000;
const pollMs = 15;
const waitMaxMs = 10_000;

/**
 * Asks for the account of a member and waits until it is there. Any process may; the leader makes it.
 * @param membership - may come from a cache; must have `status.userName`.
 * @param untilMs - until when it is needed at least, for example the end of the credential; milliseconds since the epoch.
 * @throws {TerminalError} when the member has no id, and when the account doesn't come in 10 s, as for someone who isn't Active.
 */
export async function requestAccount(
  client: Client,
  clock: Clock,
  membership: Stored<VOMembership>,
  untilMs: number,
  signal?: AbortSignal,
): Promise<Stored<ServiceAccount>> {
  const { namespace, name } = membership.metadata;
  const userName = membership.status?.userName;
  if (userName === undefined) throw new TerminalError(`The member ${name} has no user id yet: see its condition Ready`);
  const accounts = client.of(serviceAccounts);
  const key = { namespace, name: userName };
  const needed = Math.ceil(untilMs / 1000) * 1000;
  await askForAccount(client, membership, needed, signal);
  const giveUpAt = clock.monotonic() + waitMaxMs;
  for (;;) {
    const account = await accounts.find(key, { signal });
    if (account !== undefined && isUntil(account, needed)) return account;
    if (clock.monotonic() >= giveUpAt) {
      throw new TerminalError(
        `The account ${userName} did not come in ${waitMaxMs / 1000} s: see the condition Ready of the membership ${name}`,
      );
    }
    await clock.sleep(pollMs, signal);
  }
}

/**
 * Asks for the account of a member without waiting for it. The moment only moves forward: somebody else may need the account for longer.
 * @param needed - until when it is needed at least, milliseconds since the epoch.
 */
export async function askForAccount(
  client: Client,
  membership: Stored<VOMembership>,
  needed: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const until = formatTime(Math.ceil(needed / untilStepMs) * untilStepMs);
  let current = membership;
  while (!isUntil(current, needed)) {
    const { namespace, name, uid, resourceVersion } = current.metadata;
    const body = { metadata: { uid, resourceVersion, annotations: { [untilAnnotation]: until } } };
    try {
      await client.of(voMemberships).patch({ namespace, name }, { type: 'merge', body }, { signal });
      return;
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error;
    }
    current = await client.of(voMemberships).get({ namespace, name }, { signal });
  }
}

function isUntil({ metadata }: VOMembership | ServiceAccount, needed: number): boolean {
  const text = metadata.annotations?.[untilAnnotation];
  return text !== undefined && Date.parse(text) >= needed;
}

/** `v1` ServiceAccounts of members only, as the shared cache holds them. */
export const memberAccounts = { labelSelector: `${memberLabel}=true` } as const;
