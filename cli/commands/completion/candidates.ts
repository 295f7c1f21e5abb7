import { rejectedOnAbort } from '#common/abort.ts';
import { type ClusterInput, withCluster } from '../../api/cluster.ts';
import { chooseOrganization, namespaceOf } from '../../api/organizations.ts';
import { readKubeconfig } from '../../api/kubeconfig.ts';
import { complete, type FindNames } from '../../frame/completion.ts';
import type { Context } from '../../frame/context.ts';

/** A shell that waits longer than this for names seems to hang. */
const timeoutMs = 1500;

/** `xos __complete`. */
export async function printCandidates(context: Context, { line }: { readonly line: readonly string[] }): Promise<void> {
  const limited = { ...context, signal: AbortSignal.any([context.signal, AbortSignal.timeout(timeoutMs)]) };
  const findNames: FindNames = async (what, options) => {
    // No names are better than a message in the middle of a line that is being typed.
    return Promise.race([namesOf(limited, what, options), rejectedOnAbort(limited.signal)]).catch(() => []);
  };
  context.terminal.print(await complete(context.areas, line, findNames));
  // Whatever still waits for a server that doesn't answer.
  setImmediate(() => process.exit());
}

type What = Parameters<FindNames>[0];
type Options = Parameters<FindNames>[1];

async function namesOf(context: Context, what: What, options: Options): Promise<{ value: string; about: string }[]> {
  const { signal } = context;
  const input: ClusterInput = { context: options.get('context'), kubeconfig: options.get('kubeconfig') };
  if (what === 'context') {
    const config = await readKubeconfig(input.kubeconfig, context.surroundings);
    return [...config.contexts].map(([value, { cluster }]) => ({ value, about: cluster }));
  }
  const [{ virtualOrganizations }, { voMemberships }] = await Promise.all([
    import('#crds/virtual-organization.ts'),
    import('#crds/vo-membership.ts'),
  ]);
  return withCluster(context, input, async ({ client, namespace }) => {
    const organizations = client.of(virtualOrganizations);
    if (what === 'vo' || what === 'namespace') {
      const { items } = await organizations.list({ signal });
      return items.map(({ metadata, spec }) => ({
        value: what === 'vo' ? metadata.name : namespaceOf(metadata.name),
        about: spec.description ?? spec.state,
      }));
    }
    const vo = chooseOrganization({ vo: options.get('vo'), namespace: options.get('namespace') }, namespace);
    if (what === 'member') {
      const { items } = await client.of(voMemberships).list({ namespace: namespaceOf(vo), signal });
      return items.map(({ metadata, spec }) => ({
        value: metadata.name,
        about: `${spec.state}, ${spec.principal.subject}`,
      }));
    }
    if (what === 'job') {
      const { gridJobs } = await import('#crds/grid-job.ts');
      const { items } = await client.of(gridJobs).list({ namespace: namespaceOf(vo), signal });
      return items.map(({ metadata, spec, status }) => ({
        value: metadata.name,
        about: `${status?.state ?? 'Submitted'}, ${spec.owner ?? ''}`,
      }));
    }
    if (what === 'volume') {
      const { volumes } = await import('#crds/volume.ts');
      const { items } = await client.of(volumes).list({ namespace: namespaceOf(vo), signal });
      return items.map(({ metadata, spec }) => ({ value: metadata.name, about: `${spec.size}, ${spec.owner ?? ''}` }));
    }
    const { spec } = await organizations.get({ name: vo }, { signal });
    if (what === 'group')
      return spec.groups.map(({ name, description }) => ({ value: name, about: description ?? '' }));
    const builtIn = ['administrator', 'member', 'observer'].map((value) => ({ value, about: 'always exists' }));
    return [
      ...spec.roles.map(({ name, capabilities }) => ({ value: name, about: capabilities.join(', ') })),
      ...builtIn,
    ];
  });
}
