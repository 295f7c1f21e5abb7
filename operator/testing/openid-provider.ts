import { generateKeyPairSync, randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, request, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { type JWTPayload, SignJWT } from 'jose';
import { Provider } from 'oidc-provider';
import { unverifiedPayload } from '#common/identity/unverified.ts';
import { createAuthority } from '#sites/pki.ts';

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
  /** Gateways whose pages the person opens, by `host:port` as people know them. */
  readonly gateways = new Map<string, { readonly port: number; readonly caBundle: string }>();
  private readonly redirects: readonly string[];
  private readonly server: Server;
  private handle: (incoming: IncomingMessage, answer: ServerResponse) => void = () => undefined;

  private constructor(server: Server, caBundle: string, issuer: string, gateways: readonly string[]) {
    this.server = server;
    this.caBundle = caBundle;
    this.issuer = issuer;
    this.clientSecret = `client-secret-${randomUUID()}`;
    this.redirects = gateways.map((address) => `https://${address}/device/callback`);
    this.rotateKey();
    server.on('request', (incoming, answer) => this.serve(incoming, answer));
  }

  /** @param options - `host`: address under which everyone reaches it; `gateways`: addresses of those that are registered. */
  static async start(options: { host?: string; gateways?: readonly string[] } = {}): Promise<TestOpenIDProvider> {
    const authority = await createAuthority('identity provider');
    const { host = '127.0.0.1' } = options;
    const pair = await authority.issue({ commonName: host, ipAddresses: [host], usages: ['server'] });
    const server = createServer({ cert: pair.certificate, key: pair.key });
    await new Promise<void>((resolve) => server.listen(0, host, resolve));
    const { port } = server.address() as AddressInfo;
    return new TestOpenIDProvider(server, authority.certificate, `https://${host}:${port}`, options.gateways ?? []);
  }

  /** From now on signs with another key, and publishes that alone. */
  rotateKey(): void {
    this.handle = this.provider().callback();
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  /**
   * Opens an address as a person would: logs in as `login`, agrees to everything.
   * @returns where the browser ends up outside of provider and gateways, or the last page.
   */
  async browse(address: string, login: string): Promise<string> {
    const { url, body } = (await this.visit(address, { login })).at(-1) ?? { url: '', body: '' };
    return body === '' ? url : body;
  }

  /**
   * Opens an address, and fills in the forms that come.
   * @param answers - by name of the field; else what the form has, and «allow» where something is to be decided.
   * @param until - start of an address that is not opened any more.
   * @returns every page that was seen.
   */
  async visit(address: string, answers: Readonly<Record<string, string>>, until?: string): Promise<Page[]> {
    const { host, port } = new URL(this.issuer);
    const known = new Map(this.gateways).set(host, { port: Number(port), caBundle: this.caBundle });
    const browser = new Browser(known, until);
    const pages = [await browser.get(address)];
    for (let page = pages[0]; page !== undefined && pages.length <= 12; page = pages.at(-1)) {
      const form = readForm(page.body);
      if (form === undefined) return pages;
      const fields = { ...form.fields };
      const given = { password: 'x', decision: 'allow', ...answers };
      for (const [name, value] of Object.entries(given)) if (name in fields) fields[name] = value;
      delete fields.abort;
      pages.push(await browser.submit(page.url, form, fields));
    }
    throw new Error(`the way from ${address} does not end`);
  }

  private provider(): Provider {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const key = { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'ES256' };
    return new Provider(this.issuer, {
      clients: [
        {
          client_id: this.clientID,
          client_secret: this.clientSecret,
          application_type: 'web',
          redirect_uris: ['http://127.0.0.1:8400/callback', ...this.redirects],
          grant_types: ['authorization_code'],
          response_types: ['code'],
          id_token_signed_response_alg: 'ES256',
        },
      ],
      jwks: { keys: [key] },
      cookies: { keys: ['test'] },
      features: { devInteractions: { enabled: true } },
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

/** What a browser shows. */
interface Page {
  readonly url: string;
  /** Empty outside of what the browser knows. */
  readonly body: string;
}

interface Form {
  readonly method: string;
  readonly action: string;
  readonly fields: Record<string, string>;
}

/** Follows redirects, keeps cookies, and waits when told to. */
class Browser {
  private readonly known: ReadonlyMap<string, { readonly port: number; readonly caBundle: string }>;
  private readonly until: string | undefined;
  private readonly cookies = new Map<string, string>();

  constructor(known: Browser['known'], until: string | undefined) {
    this.known = known;
    this.until = until;
  }

  async get(url: string): Promise<Page> {
    return this.ask(url, 'GET');
  }

  async submit(from: string, { method, action }: Form, fields: Record<string, string>): Promise<Page> {
    const target = new URL(action, from);
    const text = new URLSearchParams(fields).toString();
    if (method === 'post') return this.ask(target.href, 'POST', { text, origin: new URL(from).origin });
    target.search = text;
    return this.ask(target.href, 'GET');
  }

  private async ask(url: string, method: string, form?: { text: string; origin: string }): Promise<Page> {
    const target = new URL(url);
    const site = this.known.get(target.host);
    if (site === undefined || (this.until !== undefined && url.startsWith(this.until))) return { url, body: '' };
    const headers = {
      host: target.host,
      cookie: [...this.cookies].map(([name, value]) => `${name}=${value}`).join('; '),
      ...(form === undefined ? {} : { 'content-type': 'application/x-www-form-urlencoded', origin: form.origin }),
    };
    const answer = await new Promise<{ location: string | undefined; text: string; wait: number }>(
      (resolve, reject) => {
        const call = request(
          target,
          { method, ca: site.caBundle, port: site.port, headers, agent: false },
          (response) => {
            for (const line of response.headers['set-cookie'] ?? []) {
              const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(line) ?? [];
              if (value === '') this.cookies.delete(name);
              else this.cookies.set(name, value);
            }
            let text = '';
            response.on('data', (chunk: Buffer) => (text += chunk.toString()));
            response.on('end', () => {
              const wait = response.statusCode === 429 ? Number(response.headers['retry-after']) : 0;
              resolve({ location: response.headers.location, text, wait });
            });
          },
        );
        call.on('error', reject);
        call.end(form?.text);
      },
    );
    if (answer.wait > 0) {
      await new Promise((resolve) => setTimeout(resolve, answer.wait * 1000));
      return this.ask(url, method, form);
    }
    if (answer.location !== undefined) return this.ask(new URL(answer.location, url).href, 'GET');
    return { url, body: answer.text };
  }
}

/** The first form of a page; a button that says something is a field as well. */
function readForm(page: string): Form | undefined {
  const [, attributes = '', content = ''] = /<form([^>]*)>([\s\S]*?)<\/form>/.exec(page) ?? [];
  const action = /action="([^"]*)"/.exec(attributes)?.[1];
  if (action === undefined) return undefined;
  const fields: Record<string, string> = {};
  for (const [input] of content.matchAll(/<(input|button)[^>]*>/g)) {
    const name = /name="([^"]*)"/.exec(input)?.[1];
    if (name !== undefined) fields[name] = /value="([^"]*)"/.exec(input)?.[1] ?? '';
  }
  const method = /method="([^"]*)"/.exec(attributes)?.[1] ?? 'get';
  return { method, action: action.replaceAll('&amp;', '&'), fields };
}
