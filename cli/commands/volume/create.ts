import { InvalidInputError } from '#common/errors.ts';
import type { Volume } from '#crds/volume.ts';
import type { OrganizationInput } from '../../api/organizations.ts';
import { type VolumeApi, withVolumes } from '../../api/volumes.ts';
import type { Context } from '../../frame/context.ts';
import { parseGrant } from './grants.ts';
import { report, type ReportInput } from './report.ts';

/** Options of `xos volume create`. */
export interface CreateInput extends OrganizationInput, ReportInput {
  readonly name: string;
  readonly size: string;
  readonly fileSystem: string | undefined;
  readonly width: number | undefined;
  readonly stripeSize: number | undefined;
  readonly replication: 'None' | 'ReadOnly' | 'Quorum' | 'All' | undefined;
  readonly replicas: number | undefined;
  readonly group: string | undefined;
  readonly mode: string | undefined;
  readonly grant: readonly string[];
  readonly reclaim: 'Retain' | 'Delete' | undefined;
}

/** `xos volume create`. */
export async function create(context: Context, input: CreateInput): Promise<void> {
  const spec = specOf(input);
  return withVolumes(context, input, async (api) => createVolume(context, input, spec, api));
}

/** Makes the Volume and tells about it. */
export async function createVolume(context: Context, input: CreateInput, spec: object, api: VolumeApi): Promise<void> {
  const { name, dryRun } = input;
  // Defaults of the schema, and the owner, are filled in by the server.
  const draft = { metadata: { name, namespace: api.namespace }, spec } as Volume;
  const made = await api.volumes.create(draft, { dryRun, signal: context.signal });
  await report(context, api, made, input, { did: `Volume ${name} of ${api.vo} is made`, wanted: ['Ready'] });
  if (dryRun) return;
  const { program, terminal } = context;
  terminal.hint(`Use it: ${program} run --volume ${name}:/data IMAGE -- ls -l /data`);
}

/** The spec that the options describe. Pure. @throws {InvalidInputError} naming the option. */
export function specOf(input: CreateInput): object {
  const { size, width, stripeSize, replication, replicas, group, mode, grant, reclaim } = input;
  return {
    size,
    fileSystem: fileSystemOf(input.fileSystem),
    striping: width === undefined && stripeSize === undefined ? undefined : { width, stripeSizeKiB: stripeSize },
    // The server says which numbers go with which policy.
    replication: replication === undefined && replicas === undefined ? undefined : { policy: replication, replicas },
    ...{ group, mode, reclaimPolicy: reclaim },
    grants: grant.length === 0 ? undefined : grant.map((text) => parseGrant(text, '--grant')),
  };
}

function fileSystemOf(text: string | undefined): object | undefined {
  if (text === undefined) return undefined;
  const [namespace = '', name = '', ...rest] = text.split('/');
  if (namespace === '' || name === '' || rest.length > 0) {
    throw new InvalidInputError('--file-system', `${JSON.stringify(text)} is not NAMESPACE/NAME`);
  }
  return { namespace, name };
}
