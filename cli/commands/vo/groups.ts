/** Groups and roles of a virtual organization. */
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import { InvalidInputError } from '#common/errors.ts';
import type { ClusterInput } from '../../api/cluster.ts';
import { withOrganizations } from '../../api/organizations.ts';
import type { Context } from '../../frame/context.ts';
import type { OutputFormat } from '../../frame/options.ts';
import { parseMoment } from '../../output/times.ts';
import { withParents } from './create.ts';
import { changeOrganization } from './edit.ts';

interface ChangeInput extends ClusterInput {
  readonly name: string;
  readonly output: OutputFormat;
  readonly dryRun: boolean;
}

interface GroupsInput extends ChangeInput {
  readonly groups: readonly string[];
}

/** `xos vo add-group`. */
export async function addGroups(
  context: Context,
  input: GroupsInput & { readonly description: string | undefined; readonly expires: string | undefined },
): Promise<void> {
  const { description, expires } = input;
  const expirationTime = expires === undefined ? undefined : parseMoment(expires, '--expires', context.clock.now());
  return withOrganizations(context, input, async (api) =>
    changeOrganization(context, api, input, (vo) => groupsWith(vo, input.groups, { description, expirationTime })),
  );
}

type Group = VirtualOrganization['spec']['groups'][number];

/** The groups with those named, and their parents; undefined when that changes nothing. */
export function groupsWith(
  { spec }: VirtualOrganization,
  named: readonly string[],
  fields: Pick<Group, 'description' | 'expirationTime'>,
): { readonly groups: Group[] } | undefined {
  const groups = new Map(spec.groups.map((group) => [group.name, group]));
  const before = JSON.stringify([...groups.values()]);
  for (const name of withParents(named)) {
    const group = groups.get(name) ?? { name };
    groups.set(name, named.includes(name) ? { ...group, ...withoutUndefined(fields) } : group);
  }
  const all = [...groups.values()];
  return JSON.stringify(all) === before ? undefined : { groups: all };
}

/** `xos vo remove-group`. */
export async function removeGroups(
  context: Context,
  input: GroupsInput & { readonly recursive: boolean },
): Promise<void> {
  return withOrganizations(context, input, async (api) =>
    changeOrganization(context, api, input, (vo) => groupsWithout(vo, input.groups, input.recursive)),
  );
}

/**
 * The groups without those named.
 * @throws {InvalidInputError} for a group that isn't there, or that has others below it and `isRecursive` is false.
 */
export function groupsWithout(
  { spec }: VirtualOrganization,
  named: readonly string[],
  isRecursive: boolean,
): { readonly groups: Group[] } {
  for (const name of named) {
    if (!spec.groups.some((group) => group.name === name)) {
      const known = spec.groups.map((group) => group.name).join(', ');
      throw new InvalidInputError('GROUPS', `${name} is no group; there are: ${known === '' ? 'none' : known}`);
    }
  }
  const isBelow = (path: string): boolean => named.some((name) => path.startsWith(`${name}/`));
  const orphan = spec.groups.find(({ name }) => isBelow(name) && !named.includes(name));
  if (orphan !== undefined && !isRecursive) {
    throw new InvalidInputError('GROUPS', `${orphan.name} lies below: name it too, or use --recursive`);
  }
  return { groups: spec.groups.filter(({ name }) => !named.includes(name) && !isBelow(name)) };
}

interface RoleInput extends ChangeInput {
  readonly role: string;
}

/** `xos vo set-role`. */
export async function setRole(
  context: Context,
  input: RoleInput & { readonly capability: readonly string[] },
): Promise<void> {
  return withOrganizations(context, input, async (api) =>
    changeOrganization(context, api, input, ({ spec }) => {
      const rest = spec.roles.filter(({ name }) => name !== input.role);
      return { roles: [...rest, { name: input.role, capabilities: [...input.capability] }] };
    }),
  );
}

/** `xos vo remove-role`. */
export async function removeRole(context: Context, input: RoleInput): Promise<void> {
  return withOrganizations(context, input, async (api) =>
    changeOrganization(context, api, input, ({ spec }) => {
      if (!spec.roles.some(({ name }) => name === input.role)) {
        const known = spec.roles.map(({ name }) => name).join(', ');
        throw new InvalidInputError(
          'ROLE',
          `${input.role} is none of its roles; there are: ${known === '' ? 'none' : known}`,
        );
      }
      return { roles: spec.roles.filter(({ name }) => name !== input.role) };
    }),
  );
}

function withoutUndefined<T extends object>(fields: T): Partial<T> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Partial<T>;
}
