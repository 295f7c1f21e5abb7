import { generateKeyPairSync, randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, request, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { type JWTPayload, SignJWT } from 'jose';
import { Provider } from 'oidc-provider';
import { unverifiedPayload } from '#common/identity/unverified.ts';
import { type Authority, createAuthority } from '#sites/pki.ts';

/** What the provider does wrong. */
export type Misbehaviour = 'hangs' | 'floods' | 'fails' | 'trickles' | 'signs with strange keys';

/** A real OpenID provider over TLS on the loopback, and a person with a browser without a window. */
export class TestOpenIDProvider {
  readonly issuer: string;
  readonly clientID = 'xtreemos';
  readonly clientSecret: string;
  readonly caBundle: string;
  /** What goes wrong, by path; everything is well when empty. */
  readonly troubles = new Map<string, Misbehaviour>();
  /** How often each path was asked for. */
  readonly requests = new Map<string, number>();
  private readonly server: Server;
  private handle: (incoming: IncomingMessage, answer: ServerResponse) => void = () => undefined;

  private constructor(server: Server, authority: Authority, port: number, clientSecret: string, host: string) {
    this.server = server;
    this.caBundle = authority.certificate;
    this.issuer = `https://${host}:${port}`;
    this.clientSecret = clientSecret;
  }

  /** @param host - name or address under which everyone reaches it. */
  static async start(
    options: { host?: string; listen?: string; authority?: Authority } = {},
  ): Promise<TestOpenIDProvider> {
    const host = options.host ?? '127.0.0.1';
    const authority = options.authority ?? (await createAuthority('identity provider'));
    const isAddress = /^[0-9.]+$/.test(host);
    const pair = await authority.issue({
      commonName: host,
      ...(isAddress ? { ipAddresses: [host] } : { dnsNames: [host] }),
      usages: ['server'],
    });
    const server = createServer({ cert: pair.certificate, key: pair.key });
    await new Promise<void>((resolve) => server.listen(0, options.listen ?? '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const made = new TestOpenIDProvider(server, authority, port, `client-secret-${randomUUID()}`, host);
    made.rotateKey();
    server.on('request', (incoming, answer) => made.serve(incoming, answer));
    return made;
  }

  /** From now on signs with another key, and publishes that alone. */
  rotateKey(): void {
    this.handle = this.provider().callback();
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  /** Opens an address as a person would: logs in as `login`, agrees to everything. @returns where the browser ends up outside of the provider, or the last page. */
  async browse(address: string, login: string): Promise<string> {
    const browser = new Browser(this.caBundle);
    let page = await browser.get(address);
    for (let step = 0; step < 12; step++) {
      if (!page.url.startsWith(this.issuer)) return page.url;
      const form = readForm(page.body);
      if (form === undefined) return page.body;
      const fields = { ...form.fields };
      if ('login' in fields) Object.assign(fields, { login, password: 'x' });
      if ('abort' in fields) delete fields.abort;
      page = await browser.post(new URL(form.action, page.url).href, fields);
    }
    throw new Error(`the login of ${login} does not end`);
  }

  private provider(): Provider {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const key = { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'ES256' };
    return new Provider(this.issuer, {
      clients: [
        {
          client_id: this.clientID,
          client_secret: this.clientSecret,
          application_type: 'native',
          redirect_uris: ['http://127.0.0.1/callback'],
          grant_types: ['authorization_code', 'urn:ietf:params:oauth:grant-type:device_code'],
          response_types: ['code'],
          id_token_signed_response_alg: 'ES256',
        },
      ],
      jwks: { keys: [key] },
      cookies: { keys: ['test'] },
      features: { deviceFlow: { enabled: true }, devInteractions: { enabled: true } },
      enabledJWA: { idTokenSigningAlgValues: ['ES256', 'RS256', 'HS256'] },
      findAccount: (_: unknown, id: string) => ({ accountId: id, claims: () => ({ sub: id }) }),
    });
  }

  private serve(incoming: IncomingMessage, answer: ServerResponse): void {
    const [path = ''] = (incoming.url ?? '').split('?');
    this.requests.set(path, (this.requests.get(path) ?? 0) + 1);
    switch (this.troubles.get(path)) {
      case 'hangs':
        return;
      case 'fails':
        answer.writeHead(500).end('no');
        return;
      case 'floods':
        pour(answer, Buffer.alloc(65_536, ' '), 1600, 0);
        return;
      case 'trickles':
        pour(answer, Buffer.alloc(1, ' '), 1600, 100);
        return;
      case 'signs with strange keys':
        signAnew(answer);
        this.handle(incoming, answer);
        return;
      case undefined:
        this.handle(incoming, answer);
    }
  }
}

/** Answers with a chunk again and again, and with a document at last. */
function pour(answer: ServerResponse, chunk: Buffer, times: number, pauseMs: number): void {
  answer.writeHead(200, { 'content-type': 'application/json' });
  let left = times;
  const next = (): void => {
    if (answer.destroyed) return;
    if (left-- <= 0) answer.end('{}');
    else if (answer.write(chunk)) setTimeout(next, pauseMs);
    else answer.once('drain', next);
  };
  next();
}

/** Whatever ID token is answered is signed by a key that nobody knows, under a name that nobody knows. */
function signAnew(answer: ServerResponse): void {
  const end = answer.end.bind(answer);
  answer.end = ((text: string) => {
    const body = JSON.parse(text) as { id_token?: string };
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const claims = unverifiedPayload(body.id_token ?? '') as JWTPayload;
    void new SignJWT(claims)
      .setProtectedHeader({ alg: 'ES256', kid: randomUUID() })
      .sign(privateKey)
      .then((token) => {
        const changed = JSON.stringify({ ...body, id_token: token });
        answer.setHeader('content-length', Buffer.byteLength(changed));
        end(changed);
      });
    return answer;
  }) as typeof answer.end;
}

interface Page {
  readonly url: string;
  readonly body: string;
}

/** Follows redirects and keeps cookies. */
class Browser {
  private readonly ca: string;
  private readonly cookies = new Map<string, string>();

  constructor(ca: string) {
    this.ca = ca;
  }

  async get(url: string): Promise<Page> {
    return this.ask(url, 'GET');
  }

  async post(url: string, fields: Record<string, string>): Promise<Page> {
    return this.ask(url, 'POST', new URLSearchParams(fields).toString());
  }

  private async ask(url: string, method: string, body?: string): Promise<Page> {
    if (!url.startsWith('https:')) return { url, body: '' };
    const cookie = [...this.cookies].map(([name, value]) => `${name}=${value}`).join('; ');
    const type = body === undefined ? {} : { 'content-type': 'application/x-www-form-urlencoded' };
    const answer = await new Promise<{ status: number; location: string | undefined; text: string }>(
      (resolve, reject) => {
        const call = request(url, { method, ca: this.ca, headers: { cookie, ...type } }, (response) => {
          for (const line of response.headers['set-cookie'] ?? []) {
            const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(line) ?? [];
            if (value === '') this.cookies.delete(name);
            else this.cookies.set(name, value);
          }
          let text = '';
          response.on('data', (chunk: Buffer) => (text += chunk.toString()));
          response.on('end', () =>
            resolve({ status: response.statusCode ?? 0, location: response.headers.location, text }),
          );
        });
        call.on('error', reject);
        call.end(body);
      },
    );
    if (answer.location !== undefined) return this.ask(new URL(answer.location, url).href, 'GET');
    return { url, body: answer.text };
  }
}

function readForm(page: string): { action: string; fields: Record<string, string> } | undefined {
  const [, attributes = '', content = ''] = /<form([^>]*)>([\s\S]*?)<\/form>/.exec(page) ?? [];
  const action = /action="([^"]*)"/.exec(attributes)?.[1];
  if (action === undefined) return undefined;
  const fields: Record<string, string> = {};
  for (const [input] of content.matchAll(/<input[^>]*>/g)) {
    const name = /name="([^"]*)"/.exec(input)?.[1];
    if (name !== undefined) fields[name] = /value="([^"]*)"/.exec(input)?.[1] ?? '';
  }
  return { action: action.replaceAll('&amp;', '&'), fields };
}
