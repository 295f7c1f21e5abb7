/** A gateway that speaks HTTPS and answers from memory, for tests of the client side. */
import { createHash } from 'node:crypto';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { systemClock } from '#common/clock.ts';
import { refreshRequest, type SessionAnswer, sessionRequest } from '#common/identity/gateway-api.ts';
import { createServingCertificate } from '#operator/serving-certificate.ts';

const inSeconds = (seconds: number): string => new Date(Date.now() + seconds * 1000).toISOString();

/** One request as it arrived. */
export interface Arrived {
  readonly line: string;
  readonly bearer: string;
  readonly body: unknown;
}

/** A gateway of site `rennes` where one provider is known. Refresh tokens rotate, and using one for two attempts ends the session. */
export class FakeGateway {
  readonly address: string;
  readonly caBundle: string;
  readonly arrived: Arrived[] = [];
  /** How often a device is told to wait. */
  devicePolls = 2;
  sessionTokenSeconds = 600;
  /** How many requests are answered with «unavailable» before the next one is served. */
  unavailable = 0;
  /** The header `Retry-After` of these. */
  retryAfterSeconds = 0;
  /** How many requests are carried out without an answer, as by a gateway that dies. */
  lost = 0;
  /** Called after each of these. */
  onLost = (): void => undefined;
  acceptableUse: { text: string; digest: string } | undefined;
  private readonly server: Server;
  private generation = 0;
  private isRevoked = false;
  private challenge = '';
  private answered: { refreshToken: string; attempt: string; answer: SessionAnswer } | undefined;

  private constructor(server: Server, caBundle: string) {
    this.server = server;
    this.caBundle = caBundle;
    this.address = `localhost:${(server.address() as AddressInfo).port}`;
    server.on('request', (request, response) => {
      void (async () => {
        const raw = await text(request);
        const body: unknown = raw === '' ? undefined : JSON.parse(raw);
        const bearer = (request.headers.authorization ?? '').replace('Bearer ', '');
        const line = `${request.method ?? ''} ${request.url ?? ''}`;
        this.arrived.push({ line, bearer, body });
        const isAway = this.unavailable > 0;
        if (isAway) this.unavailable--;
        const [status, answer] = isAway ? refusal(503, 'Unavailable', 'Try again') : this.answer(line, bearer, body);
        if (this.lost > 0) {
          this.lost--;
          request.socket.destroy();
          this.onLost();
          return;
        }
        const retryAfter = isAway ? { 'retry-after': String(this.retryAfterSeconds) } : {};
        response.writeHead(status, { 'content-type': 'application/json', ...retryAfter });
        response.end(answer === undefined ? '' : JSON.stringify(answer));
      })();
    });
  }

  static async start(): Promise<FakeGateway> {
    const { cert, key } = await createServingCertificate('localhost', systemClock);
    const server = createServer({ cert, key });
    await new Promise<void>((resolve) => server.listen(0, 'localhost', resolve));
    return new FakeGateway(server, cert);
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private answer(line: string, bearer: string, body: unknown): [number, unknown] {
    const isKnown = bearer.startsWith('session-') && !this.isRevoked;
    if (line === 'GET /v1/site') return [200, this.site()];
    if (line === 'POST /v1/sessions') return this.login(body);
    if (line === 'POST /v1/sessions/refresh') return this.refresh(body);
    if (!isKnown) return refusal(401, 'SessionEnded', 'The session has ended');
    if (line === 'DELETE /v1/sessions') {
      this.isRevoked = true;
      return [204, undefined];
    }
    if (line === 'GET /v1/whoami') return [200, this.whoami()];
    if (line === 'POST /v1/kubernetes-credential') return [200, this.credential()];
    if (line === 'POST /v1/virtual-organizations/physics/requests') return this.join(body);
    return refusal(404, 'NotFound', `There is no ${line}`);
  }

  private site(): object {
    const provider = { name: 'example', type: 'OpenIDConnect', issuer: 'https://login.example.org' };
    const { address } = this;
    return { site: 'rennes', address, version: '0.1.0', kubernetesLogin: true, identityProviders: [provider] };
  }

  private login(body: unknown): [number, unknown] {
    const parsed = sessionRequest.safeParse(body);
    if (!parsed.success) return refusal(400, 'InvalidRequest', 'The body is not understood');
    const request = parsed.data;
    if ('challenge' in request) {
      this.challenge = request.challenge;
      const expiresAt = inSeconds(60);
      if (request.method === 'code') {
        const authorizationURL = `https://login.example.org/auth?redirect_uri=${encodeURIComponent(request.redirectURI)}`;
        return [202, { method: 'code', handle: 'h', authorizationURL, expiresAt }];
      }
      return [202, this.pending({ userCode: 'WDJB-MJHT', verificationURI: 'https://login.example.org/device' })];
    }
    if ('verifier' in request) {
      const digest = createHash('sha256').update(request.verifier).digest('base64url');
      if (digest !== this.challenge) return refusal(401, 'LoginRefused', 'This login was begun by someone else');
    }
    if (request.method === 'device' && this.devicePolls-- > 0) return [202, this.pending({})];
    return [201, this.session()];
  }

  private pending(more: object): object {
    return { method: 'device', handle: 'h', intervalSeconds: 1, expiresAt: inSeconds(60), ...more };
  }

  private session(): SessionAnswer {
    this.generation++;
    return {
      principal: { issuer: 'https://login.example.org', subject: 'alice' },
      sessionToken: `session-${this.generation}`,
      sessionTokenExpiresAt: inSeconds(this.sessionTokenSeconds),
      refreshToken: `refresh-${this.generation}`,
      expiresAt: inSeconds(86_400),
    };
  }

  private refresh(body: unknown): [number, unknown] {
    const { refreshToken, attempt } = refreshRequest.parse(body);
    const { answered } = this;
    if (!this.isRevoked && answered?.refreshToken === refreshToken && answered.attempt === attempt) {
      return [200, answered.answer];
    }
    if (this.isRevoked || refreshToken !== `refresh-${this.generation}`) {
      this.isRevoked = true;
      return refusal(401, 'SessionEnded', 'The refresh token was used before: the session has ended');
    }
    const answer = this.session();
    this.answered = { refreshToken, attempt, answer };
    return [200, answer];
  }

  private whoami(): object {
    const membership = {
      virtualOrganization: 'physics',
      membership: 'alice',
      state: 'Active',
      usable: true,
      reason: '',
      userName: 'u-alice-2013265921',
      uid: 2_013_266_944,
      gid: 2_013_265_920,
      groups: [{ name: 'analysis', gid: 2_013_265_921 }],
      roles: ['member'],
    };
    const principal = { issuer: 'https://login.example.org', subject: 'alice' };
    return { site: 'rennes', principal, expiresAt: inSeconds(86_400), memberships: [membership] };
  }

  private credential(): object {
    return {
      server: 'https://127.0.0.1:1',
      caBundle: this.caBundle,
      namespace: 'vo-physics',
      userName: 'u-alice-2013265921',
      token: `kubernetes-${this.arrived.length}`,
      expiresAt: inSeconds(3600),
    };
  }

  private join(body: unknown): [number, unknown] {
    const { acceptedUse } = body as { acceptedUse?: string };
    const isAccepted = this.acceptableUse === undefined || acceptedUse === this.acceptableUse.digest;
    const answer = {
      virtualOrganization: 'physics',
      membership: 'alice',
      state: isAccepted ? 'Active' : 'Requested',
      message: isAccepted ? 'You can begin.' : 'Accept the acceptable use.',
      ...(isAccepted ? {} : { acceptableUse: this.acceptableUse }),
    };
    return [201, answer];
  }
}

function refusal(status: number, code: string, message: string): [number, unknown] {
  return [status, { error: { code, message } }];
}
