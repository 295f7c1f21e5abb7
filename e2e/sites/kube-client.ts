/**
 * The few calls that the sites themselves make to an API server. It doesn't use the product's controller runtime, so
 * that a fault there can't hide in the ground it is tested on.
 */
import { Agent, request as httpsRequest } from 'node:https';
import type { IncomingMessage } from 'node:http';
import { createInterface } from 'node:readline';

import { type Clock, systemClock } from '#common/clock.ts';

/** How to reach and log in to one API server; PEM texts. */
export interface Credentials {
  readonly server: string;
  readonly authority: string;
  readonly certificate: string;
  readonly key: string;
  /** Token of an account. When given, it is shown instead of the certificate. */
  readonly token?: string;
}

/** Any Kubernetes object, as far as the sites look into it. */
export interface KubeObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata?: {
    readonly name?: string;
    readonly namespace?: string;
    readonly uid?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly resourceVersion?: string;
    readonly deletionTimestamp?: string;
  };
  readonly spec?: Readonly<Record<string, unknown>>;
  readonly status?: Readonly<Record<string, unknown>>;
  readonly [field: string]: unknown;
}

/** A list as the API server returns it. */
export interface KubeList {
  readonly metadata: { readonly resourceVersion: string };
  readonly items: readonly KubeObject[];
}

/** One line of a watch. */
export interface WatchEvent {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR';
  readonly object: KubeObject;
}

/** The API server answered, but not with success. */
export class KubeStatusError extends Error {
  override readonly name = 'KubeStatusError';
  readonly code: number;

  constructor(code: number, method: string, path: string, body: string) {
    super(`${method} ${path} was answered ${code}: ${messageOf(body)}`);
    this.code = code;
  }
}

/** Options of one request. */
export interface RequestOptions {
  readonly body?: unknown;
  readonly contentType?: string;
  readonly timeoutMs?: number;
}

const bodyBytesMax = 64 * 1024 * 1024;

/** A client of one API server: one pool of kept connections, client certificate, no retries. */
export class KubeClient {
  private readonly agent: Agent;
  private readonly credentials: Credentials;

  constructor(credentials: Credentials) {
    this.credentials = credentials;
    this.agent = new Agent({
      keepAlive: true,
      maxSockets: 16,
      ca: credentials.authority,
      ...(credentials.token === undefined ? { cert: credentials.certificate, key: credentials.key } : {}),
    });
  }

  /** Closes kept connections. */
  close(): void {
    this.agent.destroy();
  }

  /**
   * Sends one request and returns the body as text.
   * @throws {KubeStatusError} for an answer of 400 or more; plain errors for a broken connection or time-out (10 s).
   */
  async text(method: string, path: string, options: RequestOptions = {}): Promise<string> {
    const response = await this.open(method, path, options);
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of response as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > bodyBytesMax) throw new Error(`${method} ${path}: the answer is larger than ${bodyBytesMax} bytes`);
      chunks.push(chunk);
    }
    const body = Buffer.concat(chunks).toString('utf8');
    const code = response.statusCode ?? 0;
    if (code >= 400) throw new KubeStatusError(code, method, path, body);
    return body;
  }

  /** As `text`, with the answer parsed as an object. */
  async json(method: string, path: string, options: RequestOptions = {}): Promise<KubeObject> {
    return JSON.parse(await this.text(method, path, options)) as KubeObject;
  }

  /** The object at `path`, or undefined when there is none. */
  async find(path: string): Promise<KubeObject | undefined> {
    try {
      return await this.json('GET', path);
    } catch (error) {
      if (error instanceof KubeStatusError && error.code === 404) return undefined;
      throw error;
    }
  }

  /** Every object of a collection, in one page. */
  async list(path: string): Promise<KubeList> {
    return (await this.json('GET', path)) as unknown as KubeList;
  }

  /** Server-side apply, forced, as field manager `xtreemos-sites`. */
  async apply(path: string, object: KubeObject): Promise<KubeObject> {
    return this.json('PATCH', `${path}?fieldManager=xtreemos-sites&force=true`, {
      body: object,
      contentType: 'application/apply-patch+yaml',
      timeoutMs: 30_000,
    });
  }

  /** Follows a collection from `resourceVersion` until the server ends the stream or `signal` aborts. */
  async *watch(path: string, resourceVersion: string, signal: AbortSignal): AsyncGenerator<WatchEvent> {
    const query = `watch=1&allowWatchBookmarks=true&timeoutSeconds=290&resourceVersion=${resourceVersion}`;
    const response = await this.open('GET', `${path}?${query}`, { timeoutMs: 300_000 }, signal);
    if ((response.statusCode ?? 0) >= 400) {
      response.destroy();
      throw new KubeStatusError(response.statusCode ?? 0, 'GET', path, '');
    }
    for await (const line of createInterface({ input: response, crlfDelay: Infinity })) {
      if (line !== '') yield JSON.parse(line) as WatchEvent;
    }
  }

  private async open(
    method: string,
    path: string,
    options: RequestOptions,
    signal?: AbortSignal,
  ): Promise<IncomingMessage> {
    const { server } = this.credentials;
    const timeoutMs = options.timeoutMs ?? 10_000;
    return new Promise((resolve, reject) => {
      const call = httpsRequest(
        new URL(path, server),
        {
          method,
          agent: this.agent,
          timeout: timeoutMs,
          ...(signal === undefined ? {} : { signal }),
          headers: {
            accept: 'application/json',
            ...(this.credentials.token === undefined ? {} : { authorization: `Bearer ${this.credentials.token}` }),
            ...(options.body === undefined ? {} : { 'content-type': options.contentType ?? 'application/json' }),
          },
        },
        resolve,
      );
      call.once('timeout', () =>
        call.destroy(new Error(`${method} ${server}${path} got no answer in ${timeoutMs} ms`)),
      );
      call.once('error', reject);
      call.end(options.body === undefined ? undefined : JSON.stringify(options.body));
    });
  }
}

/**
 * Repeats `check` until it returns a value other than undefined or false. What it throws counts as «not yet».
 * @throws when `limitMs` is over, naming `what` and the last error.
 */
export async function waitFor<T>(
  what: string,
  check: () => Promise<T | undefined | false> | T | undefined | false,
  { limitMs = 60_000, pauseMs = 100, clock = systemClock }: WaitOptions = {},
): Promise<T> {
  const end = clock.monotonic() + limitMs;
  let last: unknown;
  for (;;) {
    try {
      const value = await check();
      if (value !== undefined && value !== false) return value;
      last = undefined;
    } catch (error) {
      if (error instanceof GiveUpError) throw error;
      last = error;
    }
    if (clock.monotonic() >= end) throw new Error(`${what}: not within ${limitMs / 1000} s`, { cause: last });
    await clock.sleep(pauseMs);
  }
}

/** Thrown inside `waitFor` when waiting on is useless. */
export class GiveUpError extends Error {
  override readonly name = 'GiveUpError';
}

/** Limits of `waitFor`, milliseconds. */
export interface WaitOptions {
  readonly limitMs?: number;
  readonly pauseMs?: number;
  readonly clock?: Clock;
}

function messageOf(body: string): string {
  try {
    const status = JSON.parse(body) as { message?: string };
    return status.message ?? body.slice(0, 500);
  } catch {
    return body.slice(0, 500);
  }
}
