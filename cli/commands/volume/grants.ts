import { InvalidInputError } from '#common/errors.ts';
import type { Volume } from '#crds/volume.ts';
import type { OrganizationInput } from '../../api/organizations.ts';
import { withVolumes } from '../../api/volumes.ts';
import type { Context } from '../../frame/context.ts';
import { changeVolume } from './change.ts';
import type { ReportInput } from './report.ts';

type Grant = Volume['spec']['grants'][number];

/** `chemistry` and `chemistry:write`. @throws {InvalidInputError} for anything else. */
export function parseGrant(text: string, flag: string): Grant {
  const [virtualOrganization = '', access = 'read', ...rest] = text.split(':');
  const found = (['Read', 'Write'] as const).find((one) => one.toLowerCase() === access.toLowerCase());
  if (virtualOrganization === '' || found === undefined || rest.length > 0) {
    throw new InvalidInputError(flag, `${JSON.stringify(text)} is not VO, VO:read or VO:write`);
  }
  return { virtualOrganization, access: found };
}

interface GrantInput extends OrganizationInput, ReportInput {
  readonly volume: string;
  readonly to: readonly string[];
}

/** `xos volume grant`. */
export async function grant(context: Context, input: GrantInput): Promise<void> {
  const wanted = input.to.map((text) => parseGrant(text, 'VO'));
  return changeGrants(context, input, 'granted to', (grants) => grantsWith(grants, wanted));
}

/** `xos volume revoke`. */
export async function revoke(context: Context, input: GrantInput): Promise<void> {
  return changeGrants(context, input, 'no longer granted to', (grants) => grantsWithout(grants, input.to));
}

async function changeGrants(
  context: Context,
  input: GrantInput,
  what: string,
  decide: (grants: readonly Grant[]) => readonly Grant[] | undefined,
): Promise<void> {
  return withVolumes(context, input, async (api) =>
    changeVolume(context, api, input, {
      did: `Volume ${input.volume} is ${what} ${input.to.map((text) => text.split(':')[0]).join(', ')}`,
      wanted: ['Claimed'],
      decide: ({ spec }) => {
        const grants = decide(spec.grants);
        return grants === undefined ? undefined : { grants };
      },
    }),
  );
}

/** The grants with `wanted` among them; undefined when nothing changes. Pure. */
export function grantsWith(grants: readonly Grant[], wanted: readonly Grant[]): readonly Grant[] | undefined {
  const isIn = (list: readonly Grant[], { virtualOrganization, access }: Grant): boolean =>
    list.some((one) => one.virtualOrganization === virtualOrganization && one.access === access);
  if (wanted.every((one) => isIn(grants, one))) return undefined;
  const names = new Set(wanted.map(({ virtualOrganization }) => virtualOrganization));
  return [...grants.filter(({ virtualOrganization }) => !names.has(virtualOrganization)), ...wanted];
}

/** The grants without those to `names`; undefined when there are none. Pure. */
export function grantsWithout(grants: readonly Grant[], names: readonly string[]): readonly Grant[] | undefined {
  const left = grants.filter(({ virtualOrganization }) => !names.includes(virtualOrganization));
  return left.length === grants.length ? undefined : left;
}
