import type {
  Applied,
  ApplyOptions,
  Client,
  DeleteOptions,
  ListOptions,
  ObjectClient,
  Page,
  Patch,
  Priority,
  RequestOptions,
  SubresourceClient,
  WriteOptions,
} from './contracts.ts';
import { inheritedPriority } from './context.ts';
import { GoneError, ignoreNotFound } from './errors.ts';
import type { Fence } from './fence.ts';
import { apiVersionOf, collectionPath, type Kind, objectPath, resourceOf } from './kind.ts';
import type { Transport, TransportRequest } from './transport.ts';
import { keyOf, type KubeObject, type ListMeta, type ObjectKey, type Stored } from './types.ts';

/** Page size of lists: what client-go's pager uses. */
export const defaultPageSize = 500;
/** Lists may be large, and the server allows them a minute. */
const listTimeoutMs = 60_000;
/** After this many expired tokens the list is taken whole: a list slower than compaction would never end. */
const expiredMax = 2;

/** How a client is put together. */
export interface ClientOptions {
  /** Owner of the fields that writes set; shows in `managedFields`. */
  readonly fieldManager: string;
  /** Stops writes without the lease. */
  readonly fence?: Fence | undefined;
}

/** A client over a transport. Cheap: make one for each identity of fields or fence. */
export function createClient(transport: Transport, options: ClientOptions): Client {
  return {
    of: (kind) => new HttpObjectClient(transport, kind, options),
    raw: async (method, path, body, request) => {
      const isRead = method === 'GET';
      return transport.request({
        method: method as TransportRequest['method'],
        path,
        body: body === undefined ? undefined : JSON.stringify(body),
        priority: priorityOf(request, isRead ? 'read' : 'write'),
        isIdempotent: isRead,
        fence: isRead || isReview(path) ? undefined : options.fence,
        signal: request?.signal,
        verb: method.toLowerCase(),
        resource: 'raw',
      });
    },
    download: async (path, onChunk, request) => {
      const priority = priorityOf(request, 'read');
      const what = { verb: 'get', resource: 'raw', signal: request?.signal };
      return transport.bytes({ method: 'GET', path, priority, isIdempotent: true, ...what }, onChunk);
    },
  };
}

const contentTypes: Readonly<Record<Patch['type'] | 'apply', string>> = {
  merge: 'application/merge-patch+json',
  json: 'application/json-patch+json',
  strategic: 'application/strategic-merge-patch+json',
  // Every JSON text is YAML.
  apply: 'application/apply-patch+yaml',
};

/** The requests of one kind: the part that objects and subresources share. */
class Requests<T extends KubeObject> {
  readonly kind: Kind<T>;
  private readonly transport: Transport;
  private readonly options: ClientOptions;
  private readonly part: string | undefined;
  private readonly resource: string;

  constructor(transport: Transport, kind: Kind<T>, options: ClientOptions, subresource?: string) {
    this.transport = transport;
    this.kind = kind;
    this.options = options;
    this.part = subresource;
    this.resource = resourceOf(kind) + (subresource === undefined ? '' : `/${subresource}`);
  }

  async get(key: ObjectKey, options?: RequestOptions): Promise<Stored<T>> {
    return (await this.read('get', objectPath(this.kind, key, this.part), options)) as Stored<T>;
  }

  async update(object: T, options?: WriteOptions): Promise<Stored<T>> {
    const path = objectPath(this.kind, keyOf(object), this.part);
    // With a resourceVersion a repeat that had arrived ends in a conflict; without, it writes the same again.
    return this.write('update', 'PUT', path, this.typed(object), { options });
  }

  async patch(key: ObjectKey, patch: Patch, options?: WriteOptions): Promise<Stored<T>> {
    const path = objectPath(this.kind, key, this.part);
    const isIdempotent = patch.type === 'merge';
    return this.write('patch', 'PATCH', path, patch.body, { options, isIdempotent, as: patch.type });
  }

  async apply(object: Applied<T>, options?: ApplyOptions): Promise<Stored<T>> {
    const path = objectPath(this.kind, keyOf(object), this.part);
    const query = `force=${options?.force ?? true}`;
    return this.write('apply', 'PATCH', path, this.typed(object), { options, as: 'apply', query });
  }

  async create(object: T, options?: WriteOptions): Promise<Stored<T>> {
    const path = collectionPath(this.kind, object.metadata.namespace);
    return this.write('create', 'POST', path, this.typed(object), { options, isIdempotent: false });
  }

  async delete(key: ObjectKey, options: DeleteOptions = {}): Promise<void> {
    const { propagationPolicy, gracePeriodSeconds, preconditions } = options;
    const body = { kind: 'DeleteOptions', apiVersion: 'v1', propagationPolicy, gracePeriodSeconds, preconditions };
    const path = objectPath(this.kind, key);
    // A repeat after a lost answer finds nothing, or (without preconditions) a successor made in between.
    const isIdempotent = preconditions?.uid !== undefined;
    await this.send('delete', 'DELETE', withQuery(path, dryRun(options)), body, { options, isIdempotent });
  }

  async read(verb: string, path: string, options?: RequestOptions): Promise<unknown> {
    return this.transport.request({
      method: 'GET',
      path,
      priority: priorityOf(options, 'read'),
      isIdempotent: true,
      signal: options?.signal,
      timeoutMs: verb === 'list' ? listTimeoutMs : undefined,
      verb,
      resource: this.resource,
    });
  }

  private async write(
    verb: string,
    method: 'POST' | 'PUT' | 'PATCH',
    path: string,
    body: object,
    how: WriteHow & { readonly query?: string; readonly options: WriteOptions | undefined },
  ): Promise<Stored<T>> {
    const manager = `fieldManager=${encodeURIComponent(how.options?.fieldManager ?? this.options.fieldManager)}`;
    const full = withQuery(path, manager, how.query, dryRun(how.options));
    return (await this.send(verb, method, full, body, how)) as Stored<T>;
  }

  private async send(
    verb: string,
    method: TransportRequest['method'],
    path: string,
    body: object,
    how: WriteHow,
  ): Promise<unknown> {
    return this.transport.request({
      method,
      path,
      body: JSON.stringify(body),
      contentType: how.as === undefined ? undefined : contentTypes[how.as],
      priority: priorityOf(how.options, 'write'),
      isIdempotent: how.isIdempotent ?? true,
      fence: this.options.fence,
      signal: how.options?.signal,
      verb,
      resource: this.resource,
    });
  }

  private typed(object: object): object {
    return { ...object, apiVersion: apiVersionOf(this.kind), kind: this.kind.kind };
  }
}

interface WriteHow {
  readonly options?: RequestOptions | undefined;
  /** Default true. */
  readonly isIdempotent?: boolean;
  readonly as?: keyof typeof contentTypes;
}

class HttpObjectClient<T extends KubeObject> extends Requests<T> implements ObjectClient<T> {
  readonly status: SubresourceClient<T>;
  readonly subresource: (name: string) => SubresourceClient<T>;

  constructor(transport: Transport, kind: Kind<T>, options: ClientOptions) {
    super(transport, kind, options);
    this.subresource = (name) => new Requests(transport, kind, options, name);
    this.status = this.subresource('status');
  }

  async find(key: ObjectKey, options?: RequestOptions): Promise<Stored<T> | undefined> {
    return ignoreNotFound(this.get(key, options));
  }

  async listPage(options: ListOptions & { readonly continueToken?: string | undefined } = {}): Promise<Page<T>> {
    const limit = options.limit ?? defaultPageSize;
    return this.page(options, limit, options.continueToken);
  }

  async list(options: ListOptions = {}): Promise<{ items: Stored<T>[]; resourceVersion: string }> {
    const limit = options.limit ?? defaultPageSize;
    for (let expired = 0; ; expired++) {
      try {
        return await this.listFrom(options, expired < expiredMax ? limit : undefined);
      } catch (error) {
        if (!(error instanceof GoneError) || expired >= expiredMax) throw error;
      }
    }
  }

  private async listFrom(options: ListOptions, limit: number | undefined) {
    const items: Stored<T>[] = [];
    for (let token: string | undefined; ;) {
      const page = await this.page(options, limit, token);
      for (const item of page.items) items.push(item);
      if (page.continueToken === undefined) return { items, resourceVersion: page.resourceVersion };
      token = page.continueToken;
    }
  }

  private async page(options: ListOptions, limit: number | undefined, token: string | undefined): Promise<Page<T>> {
    const path = withQuery(
      collectionPath(this.kind, options.namespace),
      ...selectorQuery(options),
      limit === undefined ? undefined : `limit=${limit}`,
      token === undefined ? undefined : `continue=${encodeURIComponent(token)}`,
    );
    const list = (await this.read('list', path, options)) as { metadata?: ListMeta; items?: Stored<T>[] | null };
    const items = list.items ?? [];
    // Items of a list come without their type, which events and owner references need.
    const [apiVersion, kind] = [apiVersionOf(this.kind), this.kind.kind];
    for (const item of items) {
      item.apiVersion = apiVersion;
      item.kind = kind;
    }
    const next = list.metadata?.continue ?? '';
    return {
      items,
      resourceVersion: list.metadata?.resourceVersion ?? '',
      continueToken: next === '' ? undefined : next,
    };
  }
}

/** The selectors of a list or watch as query parameters. */
export function selectorQuery(options: Pick<ListOptions, 'labelSelector' | 'fieldSelector'>): (string | undefined)[] {
  return (['labelSelector', 'fieldSelector'] as const).map((name) => {
    const selector = options[name];
    return selector === undefined ? undefined : `${name}=${encodeURIComponent(selector)}`;
  });
}

/** A path with the parameters that are there. */
export function withQuery(path: string, ...parameters: (string | undefined)[]): string {
  const present = parameters.filter((parameter) => parameter !== undefined);
  return present.length === 0 ? path : `${path}?${present.join('&')}`;
}

function dryRun(options: { readonly dryRun?: boolean | undefined } | undefined): string | undefined {
  return options?.dryRun === true ? 'dryRun=All' : undefined;
}

function priorityOf(options: RequestOptions | undefined, usual: Priority): Priority {
  return options?.priority ?? inheritedPriority() ?? usual;
}

/** Reviews are asked by POST and store nothing, so that a process that doesn't lead may ask them. */
function isReview(path: string): boolean {
  return /^\/apis\/(authentication|authorization)\.k8s\.io\/[^/]+\/([^/]+\/)*[a-z]+reviews$/.test(path);
}
