import type { Volume } from '#crds/volume.ts';
import type { Stored } from '#runtime/types.ts';
import { changeSpec, getOrExplain, type OrganizationInput } from '../../api/organizations.ts';
import { type VolumeApi, withVolumes } from '../../api/volumes.ts';
import { waitUntil, explain } from '../../api/waiting.ts';
import type { Context } from '../../frame/context.ts';
import { report, type ReportInput } from './report.ts';
import { dryRunNote } from '../../output/print.ts';

/** One change of a Volume. */
export interface Change {
  /** What is printed when it was made. */
  readonly did: string;
  /** Conditions that hold once it is in force. */
  readonly wanted: readonly string[];
  /** A merge patch of the spec; undefined when it is so already. Pure. */
  readonly decide: (volume: Stored<Volume>) => object | undefined;
}

/** Changes a Volume and tells about it. */
export async function changeVolume(
  context: Context,
  api: VolumeApi,
  input: ReportInput & { readonly volume: string },
  { did, wanted, decide }: Change,
): Promise<void> {
  const { signal } = context;
  const key = { name: input.volume, namespace: api.namespace };
  const read = async (): Promise<Stored<Volume>> => getOrExplain(api.volumes, key, 'volume', signal);
  const { object, isChanged } = await changeSpec(api.volumes, read, decide, { dryRun: input.dryRun, signal });
  await report(context, api, object, input, { did: isChanged ? did : `${did} already`, wanted });
}

/** `xos volume resize`. */
export async function resize(
  context: Context,
  input: OrganizationInput & ReportInput & { readonly volume: string; readonly size: string },
): Promise<void> {
  return withVolumes(context, input, async (api) =>
    changeVolume(context, api, input, {
      did: `Volume ${input.volume} has the size ${input.size}`,
      wanted: ['Sized'],
      decide: ({ spec }) => (String(spec.size) === input.size ? undefined : { size: input.size }),
    }),
  );
}

interface RemoveInput extends OrganizationInput {
  readonly volumes: readonly string[];
  readonly dryRun: boolean;
  readonly wait: boolean;
  readonly timeout: number;
}

/** `xos volume delete`. */
export async function remove(context: Context, input: RemoveInput): Promise<void> {
  return withVolumes(context, input, async (api) => removeVolumes(context, input, api));
}

/** Deletes each Volume in turn, and says what becomes of its files. */
export async function removeVolumes(context: Context, input: RemoveInput, api: VolumeApi): Promise<void> {
  const { signal, terminal } = context;
  const { dryRun } = input;
  for (const name of input.volumes) {
    const key = { name, namespace: api.namespace };
    const { metadata, spec, status } = await getOrExplain(api.volumes, key, 'volume', signal);
    const { uid } = metadata;
    // Only this one: a Volume that took the name meanwhile stays.
    await api.volumes.delete(key, { dryRun, signal, preconditions: { uid } });
    if (input.wait && !dryRun) {
      await waitUntil(context, api.volumes, key, {
        what: `${name} to be gone`,
        timeoutMs: input.timeout,
        isDone: (volume) => volume?.metadata.uid !== uid,
        why: (volume) => explain(volume, 'Ready'),
      });
    }
    const kept =
      status?.volumeName === undefined ? '' : `; its files stay as ${status.volumeName} for the owner of the site`;
    const files = spec.reclaimPolicy === 'Delete' ? '; its files are erased' : kept;
    terminal.print(`Volume ${name} of ${api.vo} is deleted${files}${dryRunNote(dryRun)}`);
  }
}
