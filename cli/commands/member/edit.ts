import { withOrganizations } from '../../api/organizations.ts';
import type { Context } from '../../frame/context.ts';
import { parseMoment } from '../../output/times.ts';
import { type ChangeInput, changeMembers } from './change.ts';

interface MemberInput extends ChangeInput {
  readonly member: string;
}

/** `xos member set-groups`. */
export async function setGroups(
  context: Context,
  input: MemberInput & { readonly groups: readonly string[]; readonly expires: string | undefined },
): Promise<void> {
  const expirationTime =
    input.expires === undefined ? undefined : parseMoment(input.expires, '--expires', context.clock.now());
  const groups = [...new Set(input.groups)].map((name) => ({ name, ...(expirationTime && { expirationTime }) }));
  const did = groups.length === 0 ? 'is in no group' : `is in ${groups.map(({ name }) => name).join(', ')}`;
  return withOrganizations(context, input, async (api) =>
    changeMembers(
      context,
      input,
      [input.member],
      {
        did,
        decide: ({ spec }) => (isSameValue(spec.groups, groups) ? undefined : { groups }),
        isInForce: () => true,
      },
      api,
    ),
  );
}

/** `xos member set-roles`. */
export async function setRoles(
  context: Context,
  input: MemberInput & { readonly roles: readonly string[] },
): Promise<void> {
  const roles = [...new Set(input.roles)];
  return withOrganizations(context, input, async (api) =>
    changeMembers(
      context,
      input,
      [input.member],
      {
        did: `has the roles ${roles.join(', ')}`,
        decide: ({ spec }) => (isSameValue(spec.roles, roles) ? undefined : { roles }),
        isInForce: () => true,
      },
      api,
    ),
  );
}

/** `xos member expire`. */
export async function expire(context: Context, input: MemberInput & { readonly when: string }): Promise<void> {
  const { when } = input;
  const now = context.clock.now();
  const time = when === 'never' ? null : parseMoment(when === 'now' ? '0s' : when, 'WHEN', now);
  return withOrganizations(context, input, async (api) =>
    changeMembers(
      context,
      input,
      [input.member],
      {
        did: time === null ? 'has no end' : `ends at ${time}`,
        decide: ({ spec }) => ((spec.expirationTime ?? null) === time ? undefined : { expirationTime: time }),
        isInForce: ({ status }) => time === null || Date.parse(time) > now || status?.state === 'Expired',
      },
      api,
    ),
  );
}

function isSameValue(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
