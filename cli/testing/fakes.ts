/** Stand-ins for what commands talk to. */
import type { Site } from '#crds/site.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { VOMembership } from '#crds/vo-membership.ts';
import { VirtualClock } from '#common/clock.ts';
import type { KubeObject, ObjectKey, Stored } from '#runtime/types.ts';
import type { Objects, Organizations } from '../api/organizations.ts';
import type { Context } from '../frame/context.ts';
import { Terminal } from '../output/terminal.ts';

/** A context that keeps what is printed. */
export interface FakeContext extends Context {
  readonly stdout: () => string;
  readonly stderr: () => string;
}

/** A context on a virtual clock that always goes on; `isTerminal` makes both streams terminals. */
export function aContext(
  options: { readonly isTerminal?: boolean; readonly env?: Record<string, string> } = {},
): FakeContext {
  const isTTY = options.isTerminal === true;
  let out = '';
  let err = '';
  const env = options.env ?? { NO_COLOR: '1' };
  const clock = new VirtualClock(Date.parse('2026-11-25T12:00:00Z'));
  const sleeping = {
    now: () => clock.now(),
    monotonic: () => clock.monotonic(),
    after: (delayMs: number, fn: () => void) => clock.after(delayMs, fn),
    sleep: async (delayMs: number): Promise<void> => {
      clock.advance(delayMs);
      await Promise.resolve();
    },
  };
  return {
    terminal: new Terminal(
      { isTTY, columns: 80, write: (text) => ((out += Buffer.from(text).toString()), true) },
      { isTTY, columns: 80, write: (text) => ((err += Buffer.from(text).toString()), true) },
      env,
    ),
    surroundings: { env, homeDir: '/nowhere' },
    clock: sleeping,
    signal: new AbortController().signal,
    areas: [],
    program: 'xos',
    version: '0.0.0',
    stdout: () => out,
    stderr: () => err,
  };
}

class NamedError extends Error {
  override readonly name: string;
  readonly statusCode: number;
  constructor(name: string, statusCode: number, message: string) {
    super(message);
    this.name = name;
    this.statusCode = statusCode;
  }
}

/** Objects of one kind in memory, with versions, merge patches and conflicts as the API server has them. */
export class FakeObjects<T extends KubeObject> implements Objects<T> {
  readonly stored = new Map<string, Stored<T>>();
  /** Called before each write, for a change by someone else. */
  onWrite: ((key: ObjectKey) => void) | undefined;
  private version = 0;
  private readonly kind: string;

  constructor(kind: string, objects: readonly T[] = []) {
    this.kind = kind;
    for (const object of objects) this.put(object);
  }

  put(object: T): Stored<T> {
    const { name, namespace } = object.metadata;
    const resourceVersion = String(++this.version);
    const metadata = {
      ...object.metadata,
      uid: object.metadata.uid ?? `uid-${name}`,
      generation: (object.metadata.generation ?? 0) + 1,
      creationTimestamp: '2026-11-25T11:55:00Z',
      resourceVersion,
    };
    const stored = { ...object, kind: this.kind, metadata } as Stored<T>;
    this.stored.set(`${namespace ?? ''}/${name}`, stored);
    return stored;
  }

  async find({ namespace, name }: ObjectKey): Promise<Stored<T> | undefined> {
    return this.stored.get(`${namespace ?? ''}/${name}`);
  }

  async list(
    options: { readonly namespace?: string | undefined } = {},
  ): Promise<{ items: Stored<T>[]; resourceVersion: string }> {
    const items = [...this.stored.values()].filter(
      ({ metadata }) => options.namespace === undefined || metadata.namespace === options.namespace,
    );
    return { items, resourceVersion: String(this.version) };
  }

  async create(object: T, options: { readonly dryRun?: boolean | undefined } = {}): Promise<Stored<T>> {
    const known = await this.find(object.metadata);
    if (known !== undefined) throw new NamedError('AlreadyExistsError', 409, `${object.metadata.name} already exists`);
    const before = new Map(this.stored);
    const stored = this.put(object);
    if (options.dryRun === true) this.restore(before);
    return stored;
  }

  async patch(
    key: ObjectKey,
    patch: { readonly body: object },
    options: { readonly dryRun?: boolean | undefined } = {},
  ): Promise<Stored<T>> {
    this.onWrite?.(key);
    const found = await this.find(key);
    if (found === undefined) throw new NamedError('NotFoundError', 404, `${key.name} not found`);
    const wanted = (patch.body as { metadata?: { resourceVersion?: string } }).metadata?.resourceVersion;
    if (wanted !== undefined && wanted !== found.metadata.resourceVersion) {
      throw new NamedError('ConflictError', 409, 'the object has been modified');
    }
    const before = new Map(this.stored);
    const stored = this.put(merge(found, patch.body) as T);
    if (options.dryRun === true) this.restore(before);
    return stored;
  }

  async delete(key: ObjectKey, options: { readonly dryRun?: boolean | undefined } = {}): Promise<void> {
    if (options.dryRun !== true) this.stored.delete(`${key.namespace ?? ''}/${key.name}`);
  }

  private restore(before: ReadonlyMap<string, Stored<T>>): void {
    this.stored.clear();
    for (const [key, object] of before) this.stored.set(key, object);
  }
}

/** RFC 7396. */
function merge(target: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch;
  const result: Record<string, unknown> = { ...(target as Record<string, unknown> | undefined) };
  for (const [key, value] of Object.entries(patch)) {
    if (value !== undefined) result[key] = value === null ? undefined : merge(result[key], value);
  }
  return Object.fromEntries(Object.entries(result).filter(([, value]) => value !== undefined));
}

/** A cluster in memory. */
export interface FakeOrganizations extends Organizations {
  readonly organizations: FakeObjects<VirtualOrganization>;
  readonly memberships: FakeObjects<VOMembership>;
  readonly sites: FakeObjects<Site>;
}

/** A cluster in memory with a local site `rennes`, seen as `alice`. */
export function aCluster(
  objects: {
    readonly organizations?: readonly VirtualOrganization[];
    readonly memberships?: readonly VOMembership[];
    readonly me?: string;
    readonly namespace?: string;
  } = {},
): FakeOrganizations {
  const site = {
    metadata: { name: 'rennes' },
    spec: { type: 'Local', local: { acceptedVirtualOrganizations: [] } },
  } as unknown as Site;
  return {
    organizations: new FakeObjects('VirtualOrganization', objects.organizations),
    memberships: new FakeObjects('VOMembership', objects.memberships),
    sites: new FakeObjects('Site', [site]),
    namespace: objects.namespace ?? 'default',
    whoAmI: async () => objects.me ?? 'alice',
    localSiteName: async () => site.metadata.name,
  };
}

/** A virtual organization with the defaults of the schema. */
export function anOrganization(
  spec: Partial<VirtualOrganization['spec']> = {},
  status?: VirtualOrganization['status'],
): VirtualOrganization {
  return {
    metadata: { name: 'physics' },
    spec: {
      state: 'Forming',
      sites: [],
      administrators: [{ issuer: 'kubernetes:rennes', subject: 'alice' }],
      groups: [],
      roles: [],
      enrolment: { mode: 'Closed' },
      identity: { uidMode: 'Global' },
      isolation: { minimum: 'Namespace' },
      quota: {},
      jobs: { priorityMax: 0 },
      network: { internal: false, egress: [] },
      governance: { secondAdministrator: false, delaySeconds: 0 },
      ...spec,
    },
    ...(status === undefined ? {} : { status }),
  };
}

/** A membership with the defaults of the schema. */
export function aMember(
  name: string,
  spec: Partial<VOMembership['spec']> = {},
  status?: VOMembership['status'],
): VOMembership {
  return {
    metadata: { name, namespace: 'vo-physics' },
    spec: {
      principal: { issuer: 'https://login.example.org', subject: name },
      state: 'Active',
      groups: [],
      roles: ['member'],
      capabilities: [],
      ...spec,
    },
    ...(status === undefined ? {} : { status }),
  };
}
