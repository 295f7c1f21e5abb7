import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import { type Organizations, withOrganizations } from '../../api/organizations.ts';
import type { ClusterInput } from '../../api/cluster.ts';
import { callerPrincipal, parsePrincipal } from '../../api/principals.ts';
import type { Context } from '../../frame/context.ts';
import type { OutputFormat } from '../../frame/options.ts';
import { type FieldInput, specOf } from './fields.ts';
import { report, type ReportInput } from './report.ts';

interface CreateInput extends ClusterInput, FieldInput, ReportInput {
  readonly name: string;
  readonly administrator: readonly string[];
  readonly group: readonly string[];
  readonly uidMode: 'Global' | 'Local';
  readonly activate: boolean;
  readonly output: OutputFormat;
  readonly dryRun: boolean;
}

/** `xos vo create`. */
export async function create(context: Context, input: CreateInput): Promise<void> {
  const spec = await specOf(input);
  return withOrganizations(context, input, async (api) => createOrganization(context, input, spec, api));
}

/** Forms the virtual organization and tells about it. */
export async function createOrganization(
  context: Context,
  input: CreateInput,
  fields: Record<string, unknown>,
  api: Organizations,
): Promise<void> {
  const { signal } = context;
  const named = input.administrator.map((text) => parsePrincipal(text, '--administrator'));
  const administrators = named.length > 0 ? named : [await callerPrincipal(api, '--administrator')];
  const object = {
    metadata: { name: input.name },
    spec: {
      ...fields,
      administrators,
      ...(input.group.length === 0 ? {} : { groups: withParents(input.group).map((name) => ({ name })) }),
      identity: { uidMode: input.uidMode },
      ...(input.activate ? { state: 'Operational' } : {}),
    },
    // Defaults of the schema fill in what is left out.
  } as unknown as VirtualOrganization;
  const created = await api.organizations.create(object, { dryRun: input.dryRun, signal });
  const did = `Virtual organization ${input.name} is formed`;
  return report(context, api, created, input, { did, wanted: created.spec.state });
}

/** The paths with every path above them, parents first, each once. */
export function withParents(paths: readonly string[]): string[] {
  const all = new Set<string>();
  for (const path of paths) {
    const levels = path.split('/');
    for (let depth = 1; depth <= levels.length; depth++) all.add(levels.slice(0, depth).join('/'));
  }
  return [...all];
}
