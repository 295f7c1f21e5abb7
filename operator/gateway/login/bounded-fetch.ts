import { request } from 'node:https';
import { rootCertificates } from 'node:tls';

/** What a provider has to answer in, milliseconds. */
const timeoutMs = 5000;
/** Documents of providers are a few kilobytes; sets of keys seldom more. */
const bodyMaxBytes = 1_048_576;

/** What `fetch` is asked with, as far as clients of OpenID providers use it. */
export interface FetchOptions {
  readonly method?: string | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly body?: unknown;
  readonly signal?: AbortSignal | undefined;
}

/**
 * A `fetch` for providers: HTTPS only, no redirect, no more than 5 seconds and a megabyte, whatever the other side sends (threat 45).
 * @param ca - PEM, used instead of the roots of the system.
 */
export function boundedFetch(ca?: string): (url: string, options: FetchOptions) => Promise<Response> {
  const trusted = ca ?? [...rootCertificates];
  return async (url, options) => {
    const target = new URL(url);
    if (target.protocol !== 'https:') throw new TypeError(`${target.origin} is not https`);
    const body = bodyOf(options.body);
    const limit = AbortSignal.timeout(timeoutMs);
    const signal = options.signal === undefined ? limit : AbortSignal.any([limit, options.signal]);
    return new Promise<Response>((resolve, reject) => {
      const headers = { ...options.headers, 'content-length': String(Buffer.byteLength(body)) };
      const call = request(
        target,
        { method: options.method ?? 'GET', headers, ca: trusted, signal, agent: false },
        (answer) => {
          const chunks: Buffer[] = [];
          let size = 0;
          answer.on('data', (chunk: Buffer) => {
            size += chunk.length;
            if (size > bodyMaxBytes)
              call.destroy(new RangeError(`${target.host} sends more than ${bodyMaxBytes} bytes`));
            else chunks.push(chunk);
          });
          answer.on('error', reject);
          answer.on('end', () => {
            const status = answer.statusCode ?? 0;
            const entries = Object.entries(answer.headers).flatMap(([name, value]) =>
              typeof value === 'string' ? [[name, value] as const] : [],
            );
            const content = status === 204 || status === 304 ? null : Buffer.concat(chunks);
            resolve(
              new Response(content, { status, headers: new Headers(entries.map(([name, value]) => [name, value])) }),
            );
          });
        },
      );
      call.on('error', reject);
      call.end(body);
    });
  };
}

function bodyOf(body: unknown): string {
  if (body === undefined || body === null) return '';
  if (typeof body === 'string') return body;
  if (body instanceof URLSearchParams) return body.toString();
  throw new TypeError('only texts and forms are sent to providers');
}
