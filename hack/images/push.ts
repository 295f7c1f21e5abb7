/** Pushes a layout to a registry through the distribution HTTP API (distribution-spec v1.1), with plain fetch. */
import { createReadStream, readFileSync, statSync } from 'node:fs';
import { Readable } from 'node:stream';

import { InvalidInputError } from '#common/errors.ts';

import { blobPath, type Descriptor, type Manifest, readIndex } from './layout.ts';

/** Where to push, as the user wrote it: `registry[:port]/prefix`. */
export interface PushTarget {
  readonly base: string;
  readonly prefix: string;
}

/** Sends one request; the platform's `fetch` by default. */
export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/** Options of `pushLayout`. */
export interface PushOptions {
  readonly fetch?: Fetch;
  /** Log in with basic authentication, or to the token service that the registry names. */
  readonly login?: { readonly user: string; readonly password: string };
  readonly report?: (line: string) => void;
}

/**
 * Splits `registry[:port]/prefix`. Plain HTTP is spoken to loopback registries only.
 * @throws {InvalidInputError} when the registry or the prefix is missing or malformed.
 */
export function parsePushTarget(text: string): PushTarget {
  const match = /^((?:[a-zA-Z0-9.-]+|\[[0-9a-fA-F:]+\])(?::\d+)?)\/([a-z0-9]+(?:[._/-]+[a-z0-9]+)*)$/.exec(text);
  if (match === null)
    throw new InvalidInputError('PUSH', `must be registry[:port]/prefix, not ${JSON.stringify(text)}`);
  const [, host = '', prefix = ''] = match;
  const isLoopback = /^(localhost|127\.|\[::1\])/.test(host);
  return { base: `${isLoopback ? 'http' : 'https'}://${host}`, prefix };
}

/** Name in the registry of an image of ours: `xtreemos.io/busybox:1` becomes `PREFIX/busybox:1`. */
export function remoteName(target: PushTarget, image: string): { repository: string; tag: string } {
  const [path = '', tag = 'latest'] = image.slice(image.lastIndexOf('/') + 1).split(':');
  return { repository: `${target.prefix}/${path}`, tag };
}

/**
 * Uploads every image of a layout: blobs that the registry lacks, then the manifest under its tag.
 * @returns `REGISTRY/REPOSITORY@DIGEST` of each.
 * @throws when the registry refuses, naming the request and its answer.
 */
export async function pushLayout(dir: string, target: PushTarget, options: PushOptions = {}): Promise<string[]> {
  const pushed: string[] = [];
  for (const image of readIndex(dir)) {
    const name = image.annotations?.['io.containerd.image.name'] ?? '';
    const { repository, tag } = remoteName(target, name);
    const session = new Session(target.base, repository, options);
    const manifest = JSON.parse(readFileSync(blobPath(dir, image.digest), 'utf8')) as Manifest;
    for (const blob of [manifest.config, ...manifest.layers]) await session.uploadBlob(dir, blob);
    await session.putManifest(dir, image, tag);
    options.report?.(`Pushed ${repository}:${tag}`);
    pushed.push(`${new URL(target.base).host}/${repository}@${image.digest}`);
  }
  return pushed;
}

class Session {
  private readonly base: string;
  private readonly repository: string;
  private readonly options: PushOptions;
  private authorization: string | undefined;

  constructor(base: string, repository: string, options: PushOptions) {
    this.base = base;
    this.repository = repository;
    this.options = options;
  }

  async uploadBlob(dir: string, blob: Descriptor): Promise<void> {
    const url = `${this.base}/v2/${this.repository}/blobs`;
    const known = await this.send('HEAD', `${url}/${blob.digest}`, [200, 404]);
    if (known.status === 200) return;
    const started = await this.send('POST', `${url}/uploads/`, [202]);
    const location = new URL(started.headers.get('location') ?? '', `${url}/uploads/`);
    location.searchParams.set('digest', blob.digest);
    const path = blobPath(dir, blob.digest);
    await this.send('PUT', location.href, [201], {
      headers: { 'content-type': 'application/octet-stream', 'content-length': String(statSync(path).size) },
      body: () => Readable.toWeb(createReadStream(path)) as ReadableStream,
    });
  }

  async putManifest(dir: string, image: Descriptor, tag: string): Promise<void> {
    const body = readFileSync(blobPath(dir, image.digest));
    await this.send('PUT', `${this.base}/v2/${this.repository}/manifests/${tag}`, [201], {
      headers: { 'content-type': image.mediaType },
      body: () => body,
    });
  }

  private async send(
    method: string,
    url: string,
    accepted: readonly number[],
    content?: {
      readonly headers: Readonly<Record<string, string>>;
      readonly body: () => NonNullable<RequestInit['body']>;
    },
  ): Promise<Response> {
    for (let attempt = 0; ; attempt++) {
      const response = await (this.options.fetch ?? fetch)(url, {
        method,
        headers: {
          ...content?.headers,
          ...(this.authorization === undefined ? {} : { authorization: this.authorization }),
        },
        ...(content === undefined ? {} : { body: content.body(), duplex: 'half' }),
      });
      if (accepted.includes(response.status)) return response;
      if (response.status === 401 && attempt === 0) {
        await this.logIn(response.headers.get('www-authenticate') ?? '');
        continue;
      }
      const said = (await response.text()).slice(0, 500);
      throw new Error(`${method} ${url} was answered ${response.status}: ${said}`);
    }
  }

  /** Basic authentication, or a token from the service that the challenge names. */
  private async logIn(challenge: string): Promise<void> {
    const { login } = this.options;
    const basic =
      login === undefined ? undefined : `Basic ${Buffer.from(`${login.user}:${login.password}`).toString('base64')}`;
    if (!challenge.startsWith('Bearer ')) {
      if (basic === undefined) throw new Error(`${this.base} wants a login: set PUSH_USER and PUSH_PASSWORD`);
      this.authorization = basic;
      return;
    }
    const fields = new Map([...challenge.matchAll(/(\w+)="([^"]*)"/g)].map(([, key = '', value = '']) => [key, value]));
    const url = new URL(fields.get('realm') ?? this.base);
    if (fields.has('service')) url.searchParams.set('service', fields.get('service') ?? '');
    url.searchParams.set('scope', fields.get('scope') ?? `repository:${this.repository}:pull,push`);
    const init = { method: 'GET', headers: basic === undefined ? {} : { authorization: basic } };
    const response = await (this.options.fetch ?? fetch)(url.href, init);
    if (!response.ok) throw new Error(`${url.origin} refused a token for ${this.repository}: ${response.status}`);
    const { token, access_token: other } = (await response.json()) as { token?: string; access_token?: string };
    this.authorization = `Bearer ${token ?? other ?? ''}`;
  }
}
