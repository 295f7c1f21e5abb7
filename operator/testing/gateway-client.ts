import { createHash, randomBytes } from 'node:crypto';
import { Agent, request } from 'node:https';

/** What a user's program sees of an answer. */
export interface GatewayAnswer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
  readonly headers: Readonly<Record<string, unknown>>;
}

/** Speaks to a gateway as a user's program does. */
export class GatewayClient {
  readonly port: number;
  private readonly ca: string;
  private readonly host: string;

  constructor(port: number, ca: string, host = '127.0.0.1') {
    this.port = port;
    this.ca = ca;
    this.host = host;
  }

  /** As {@link callOnce}; waits and asks again when told to, as programs should. */
  async call(...parameters: Parameters<GatewayClient['callOnce']>): Promise<GatewayAnswer> {
    for (let attempt = 0; ; attempt++) {
      const answer = await this.callOnce(...parameters);
      if (answer.status !== 429 || attempt === 20) return answer;
      await new Promise((resolve) => setTimeout(resolve, Number(answer.headers['retry-after']) * 1000));
    }
  }

  async callOnce(
    method: string,
    path: string,
    options: {
      body?: unknown;
      text?: string;
      bearer?: string;
      certificate?: { readonly certificate: string; readonly key: string };
      headers?: Record<string, string>;
    } = {},
  ): Promise<GatewayAnswer> {
    const { body, bearer, certificate } = options;
    const text = options.text ?? (body === undefined ? (method === 'POST' ? '{}' : '') : JSON.stringify(body));
    const headers = {
      ...(method === 'POST' ? { 'content-type': 'application/json' } : {}),
      ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
      'content-length': String(Buffer.byteLength(text)),
      ...options.headers,
    };
    const tls = certificate === undefined ? {} : { cert: certificate.certificate, key: certificate.key };
    const agent = new Agent({ keepAlive: false, ca: this.ca, ...tls });
    return new Promise((resolve, reject) => {
      const call = request({ host: this.host, port: this.port, method, path, headers, agent }, (response) => {
        let received = '';
        response.on('data', (chunk: Buffer) => (received += chunk.toString()));
        response.on('end', () => {
          const parsed = received === '' ? {} : (JSON.parse(received) as Record<string, unknown>);
          resolve({ status: response.statusCode ?? 0, body: parsed, headers: response.headers });
        });
      });
      call.on('error', reject);
      call.end(text);
    });
  }
}

/** A verifier and its challenge (RFC 7636). */
export function aVerifier(): { readonly verifier: string; readonly challenge: string } {
  const verifier = randomBytes(32).toString('base64url');
  return { verifier, challenge: createHash('sha256').update(verifier).digest('base64url') };
}
