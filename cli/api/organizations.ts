/** Virtual organizations and memberships as commands need them: a narrow port, so that tests bring their own. */
import type { Site } from '#crds/site.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { VOMembership } from '#crds/vo-membership.ts';
import { InvalidInputError } from '#common/errors.ts';
import type { ObjectClient } from '#runtime/contracts.ts';
import type { KubeObject, ObjectKey, Stored } from '#runtime/types.ts';
import type { Context } from '../frame/context.ts';
import { CommandError } from '../frame/exit.ts';
import { type ClusterInput, published, withCluster } from './cluster.ts';

/** What commands do with objects of one kind. */
export type Objects<T extends KubeObject> = Pick<ObjectClient<T>, 'find' | 'list' | 'create' | 'patch' | 'delete'>;

/** The caller's view of a cluster. */
export interface Organizations {
  readonly organizations: Objects<VirtualOrganization>;
  readonly memberships: Objects<VOMembership>;
  readonly sites: SiteObjects;
  /** User name by which the API server knows the caller. */
  whoAmI(): Promise<string>;
  /** Name of the cluster's own site, which every user may read where it has a gateway; undefined when nothing says it. */
  localSiteName(): Promise<string | undefined>;
  /** Namespace of the context. */
  readonly namespace: string;
}

/** The part of `Site` objects that is used; they are read and patched alone. */
export type SiteObjects = Pick<ObjectClient<Site>, 'list' | 'patch'>;

/** Options of commands about one virtual organization. */
export interface OrganizationInput extends ClusterInput {
  readonly vo: string | undefined;
  readonly namespace: string | undefined;
}

/** Runs `use` with the chosen cluster. */
export async function withOrganizations<T>(
  context: Context,
  input: ClusterInput,
  use: (api: Organizations) => Promise<T>,
): Promise<T> {
  const [{ virtualOrganizations }, { voMemberships }, { sites }] = await Promise.all([
    import('#crds/virtual-organization.ts'),
    import('#crds/vo-membership.ts'),
    import('#crds/site.ts'),
  ]);
  return withCluster(context, input, async ({ client, namespace }) => {
    const { signal } = context;
    return use({
      organizations: client.of(virtualOrganizations),
      memberships: client.of(voMemberships),
      sites: client.of(sites),
      namespace,
      whoAmI: async () => (await import('#runtime/self-review.ts')).whoAmI(client, signal),
      localSiteName: async () => {
        const { configMaps } = await import('#runtime/builtin.ts');
        const told = await findVisible(client.of(configMaps), published, signal);
        if (told?.data?.site !== undefined) return told.data.site;
        const listed = await ifVisible(client.of(sites).list({ signal }));
        return listed?.items.find(({ spec }) => spec.type === 'Local')?.metadata.name;
      },
    });
  });
}

/** Namespace of a virtual organization. */
export function namespaceOf(vo: string): string {
  return `vo-${vo}`;
}

/** The virtual organization whose namespace it is; undefined for other namespaces. */
export function organizationIn(namespace: string): string | undefined {
  return namespace.startsWith('vo-') ? namespace.slice('vo-'.length) : undefined;
}

/**
 * The virtual organization that a command is about: `--vo`, else the namespace given, else that of the context.
 * @throws {InvalidInputError} when none of them says.
 */
export function chooseOrganization(
  input: Pick<OrganizationInput, 'vo' | 'namespace'>,
  contextNamespace: string,
): string {
  if (input.vo !== undefined) return input.vo;
  const namespace = input.namespace ?? contextNamespace;
  const chosen = organizationIn(namespace);
  if (chosen !== undefined) return chosen;
  throw new InvalidInputError(
    '--vo',
    `is needed, since ${JSON.stringify(namespace)} is no namespace of a virtual organization: give --vo NAME; xos vo list shows them`,
  );
}

/** The object, or an error that names those there are. */
export async function getOrExplain<T extends KubeObject>(
  objects: Pick<Objects<T>, 'find' | 'list'>,
  key: ObjectKey,
  what: string,
  signal: AbortSignal,
): Promise<Stored<T>> {
  const found = await objects.find(key, { signal });
  if (found !== undefined) return found;
  const listing = await ifVisible(objects.list({ namespace: key.namespace, signal }));
  if (listing === undefined) throw new CommandError('notFound', `No ${what} is called ${key.name}`);
  const { items } = listing;
  const names = items.map(({ metadata }) => metadata.name);
  const listed = names.length === 0 ? 'there are none' : `there are: ${names.slice(0, 10).join(', ')}`;
  throw new CommandError('notFound', `No ${what} is called ${key.name}; ${listed}${names.length > 10 ? ', …' : ''}`);
}

/** The object as far as the caller may see it: undefined also when they may not. */
export async function findVisible<T extends KubeObject>(
  objects: Pick<Objects<T>, 'find'>,
  key: ObjectKey,
  signal: AbortSignal,
): Promise<Stored<T> | undefined> {
  return ifVisible(objects.find(key, { signal }));
}

/** What is asked for; undefined when the caller may not see it. */
async function ifVisible<T>(asked: Promise<T>): Promise<T | undefined> {
  return asked.catch((error: unknown) => {
    if (isForbidden(error)) return undefined;
    throw error;
  });
}

/** Whether the API server says that the caller may not. */
export function isForbidden(error: unknown): boolean {
  return error instanceof Error && error.name === 'ForbiddenError';
}

/** How often a change is made anew when someone else was faster. */
const attemptsMax = 5;

/**
 * Reads an object, lets `decide` say what to change in its spec, and writes that if nobody wrote meanwhile; else again.
 * @param decide - a merge patch of the spec; undefined when there is nothing to change. Pure.
 * @returns the object as it is afterwards, and whether anything was changed.
 */
export async function changeSpec<T extends KubeObject>(
  objects: Pick<Objects<T>, 'patch'>,
  read: () => Promise<Stored<T>>,
  decide: (object: Stored<T>) => object | undefined,
  options: { readonly dryRun?: boolean; readonly signal: AbortSignal },
): Promise<{ readonly object: Stored<T>; readonly isChanged: boolean }> {
  for (let attempt = 1; ; attempt++) {
    const object = await read();
    const spec = decide(object);
    if (spec === undefined) return { object, isChanged: false };
    const { name, namespace, resourceVersion } = object.metadata;
    const body = { metadata: { resourceVersion }, spec };
    try {
      const changed = await objects.patch({ name, namespace }, { type: 'merge', body }, options);
      return { object: changed, isChanged: true };
    } catch (error) {
      const isConflict = error instanceof Error && error.name === 'ConflictError';
      if (!isConflict || attempt >= attemptsMax) throw error;
    }
  }
}
