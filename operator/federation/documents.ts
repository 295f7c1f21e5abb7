/** What the home of a virtual organization tells, and what the other side takes: checked against the schemas of the kinds. */
import { z } from 'zod';
import { identitySliceDefinition, type IdentitySliceSpec } from '#crds/identity-slice.ts';
import { provisionedLabel, type Volume, volumeDefinition, type VolumeSpec } from '#crds/volume.ts';
import { type VirtualOrganization, virtualOrganizationDefinition } from '#crds/virtual-organization.ts';
import { type VOMembership, voMembershipDefinition } from '#crds/vo-membership.ts';
import type { FollowEvent } from '#proto/site/schema.ts';
import { PeerError } from '#operator/gateway/peers/contract.ts';

const organizationSchema = z.strictObject({
  uid: z.string().min(1).max(64),
  spec: z.unknown(),
  genesis: z.string().max(16_384),
  state: z.string().max(524_288),
});
const sliceSchema = z.strictObject({
  number: z.int().min(0).max(2047),
  ordinal: z.int().min(0).max(63),
  issued: z.string(),
  groups: z.record(z.string(), z.int()),
});

const uidSchema = z.string().regex(/^[0-9a-f-]{36}$/);
const volumeSchema = z.strictObject({ uid: uidSchema, fileSystemUID: uidSchema, spec: z.looseObject({}) });

/** Of the organization itself. */
export interface FollowedOrganization {
  /** Of the object at its home. */
  readonly uid: string;
  readonly spec: VirtualOrganization['spec'];
  readonly genesis: string;
  readonly state: string;
}
/** Of one of its slices. */
export type FollowedSlice = z.infer<typeof sliceSchema>;

/** The organization for other sites: what its home alone decides stays there. */
export function tellOrganization(
  { metadata, spec }: VirtualOrganization,
  documents: { readonly genesis: string; readonly state: string },
): string {
  const administrators = spec.administrators.map(({ issuer, subject }) => ({ issuer, subject }));
  const told = { ...spec, administrators, dissolution: undefined, enrolment: undefined };
  return JSON.stringify({ uid: metadata.uid ?? '', spec: told, ...documents });
}

/** The member as they stand at the home; undefined for those that have no id or were not let in: they are nobody elsewhere. */
export function tellMember({ metadata, spec, status }: VOMembership): string | undefined {
  const state = status?.state;
  if (spec.identity === undefined || state === undefined || state === 'Requested') return undefined;
  const isActive =
    (state === 'Active' || state === 'Expired') && spec.state === 'Active' && metadata.deletionTimestamp === undefined;
  return JSON.stringify({
    ...spec,
    acceptedUse: undefined,
    state: isActive ? 'Active' : spec.state === 'Banned' ? 'Banned' : 'Suspended',
  });
}

/** The slice with its ids. */
export function tellSlice({ number, ordinal, issued, groups }: IdentitySliceSpec): string {
  return JSON.stringify({ number, ordinal, issued, groups });
}

/** The Volume for other sites; undefined for one that is not there to be mounted, or that is another site's itself. */
export function tellVolume({ metadata, spec, status }: Volume): string | undefined {
  const { uid, deletionTimestamp, labels } = metadata;
  const isMade = status?.sizeBytes !== undefined && status.fileSystemUID !== undefined;
  if (!isMade || spec.remote !== undefined || deletionTimestamp !== undefined) return undefined;
  // Who has such a claim has it at one site.
  if (labels?.[provisionedLabel] !== undefined) return undefined;
  const { size, owner, group, mode, striping, replication } = spec;
  return JSON.stringify({
    uid,
    fileSystemUID: status.fileSystemUID,
    spec: { size, owner, group, mode, striping, replication },
  });
}

/** @throws {PeerError} `Invalid` */
export function readVolume(event: FollowEvent, home: string): VolumeSpec {
  if (!/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(event.name))
    throw new PeerError('Invalid', 'A volume was told of under what is no name.');
  const { uid, fileSystemUID, spec } = read(volumeSchema, event);
  const remote = { site: home, volumeUID: uid, fileSystemUID };
  // What becomes of its files is the business of its site, and so is who else may have it.
  const local = { ...spec, fileSystem: undefined, grants: [], reclaimPolicy: 'Retain', remote };
  const schema = volumeDefinition.spec as z.ZodType<VolumeSpec>;
  return read(schema, { ...event, json: JSON.stringify(local) });
}

/** @throws {PeerError} `Invalid` */
export function readOrganization(event: FollowEvent, home: string): FollowedOrganization {
  const { spec, ...rest } = read(organizationSchema, event);
  const given = read(z.looseObject({ state: z.string() }), { ...event, json: JSON.stringify(spec) });
  // Its end is an act of its home; here nothing of it goes on, and its ids stay known.
  const state = given.state === 'Dissolved' ? 'Frozen' : given.state;
  const governance = { secondAdministrator: false, delaySeconds: 0 };
  const local = { ...given, state, homeSite: home, enrolment: { mode: 'Closed' }, governance };
  const schema = virtualOrganizationDefinition.spec as z.ZodType<VirtualOrganization['spec']>;
  return { ...rest, spec: read(schema, { ...event, json: JSON.stringify(local) }) };
}

/** @throws {PeerError} `Invalid` */
export function readMember(event: FollowEvent): VOMembership['spec'] {
  // It becomes the name of an object.
  if (!/^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/.test(event.name))
    throw new PeerError('Invalid', 'A member was told of under what is no name.');
  return read(voMembershipDefinition.spec as z.ZodType<VOMembership['spec']>, event);
}

/** @throws {PeerError} `Invalid` */
export function readSlice(event: FollowEvent): FollowedSlice {
  const slice = read(sliceSchema, event);
  const whole = { ...slice, virtualOrganization: { name: 'any', uid: 'any' } };
  read(identitySliceDefinition.spec, { ...event, json: JSON.stringify(whole) });
  return slice;
}

function read<T>(schema: z.ZodType<T>, { kind, name, json }: FollowEvent): T {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    throw new PeerError('Invalid', `What was told of ${kind} ${name.slice(0, 64)} is no JSON.`);
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const problem = `${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`;
  throw new PeerError('Invalid', `What was told of ${kind} ${name.slice(0, 64)} is not understood (${problem}).`);
}
