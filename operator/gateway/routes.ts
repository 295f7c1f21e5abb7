import type { z } from 'zod';
import { InvalidInputError } from '#common/errors.ts';
import type { Clock } from '#common/clock.ts';
import type { membershipAnswer } from '#common/identity/gateway-api.ts';
import {
  joinRequest,
  kubernetesCredentialRequest,
  peerRequest,
  refreshRequest,
  sessionRequest,
  tokenRequest,
} from '#common/identity/gateway-api.ts';
import { accessTokenLifetimeMaxSeconds } from '#common/identity/access-token.ts';
import { parseScopes } from '#common/identity/scopes.ts';
import { MintingError, type TokenMinter } from '#operator/identity/minter.ts';
import type { Enrolment } from './enrolment.ts';
import type { RouteAnswer } from './exchange.ts';
import type { Invitations } from './invitations.ts';
import type { Logins } from './login/logins.ts';
import type { MemberTokens } from './member-tokens.ts';
import type { GatewayMetrics } from './metrics.ts';
import { type Member, type Members, tokenContent } from './members.ts';
import { Refusal } from './refusal.ts';
import { readBody } from './request-body.ts';
import type { RequestContext, Route } from './server.ts';
import { type Explorer, selectionRequest } from './selection.ts';
import { checkCovers, type Session, type Sessions } from './sessions.ts';

/** Where clients of the cluster find its API server. */
export interface ApiServerAddress {
  readonly server: string;
  readonly caBundle: string;
}

/** What routes work with. */
export interface RouteParts {
  readonly logins: Logins;
  readonly sessions: Sessions;
  readonly members: Members;
  readonly minter: TokenMinter;
  readonly enrolment: Enrolment;
  readonly invitations: Invitations;
  readonly memberTokens: MemberTokens;
  /** Absent where no selectors run. */
  readonly explorer: Explorer | undefined;
  readonly apiServer: () => Promise<ApiServerAddress>;
  readonly metrics: GatewayMetrics;
  readonly clock: Clock;
  readonly site: string;
  /** `host:port` under which users reach the gateway. */
  readonly address: string;
  readonly version: string;
}

/** Every route of users; common/identity/gateway-api.ts tells what each takes and gives. */
export function gatewayRoutes(parts: RouteParts): Route[] {
  const handlers = new Handlers(parts);
  const route = (
    name: string,
    method: Route['method'],
    path: string,
    handle: Route['handle'],
    more: { isPublic?: boolean; isLogin?: boolean } = {},
  ): Route => ({
    ...{ name, method, path, handle },
    ...{ isAudited: more.isPublic !== true, isLogin: more.isLogin === true },
  });
  return [
    route('site.read', 'GET', '/v1/site', async () => handlers.readSite(), { isPublic: true }),
    route('session.create', 'POST', '/v1/sessions', async (context) => handlers.createSession(context), {
      isLogin: true,
    }),
    route('session.refresh', 'POST', '/v1/sessions/refresh', async (context) => handlers.refreshSession(context), {
      isLogin: true,
    }),
    route('session.end', 'DELETE', '/v1/sessions', async (context) => handlers.endSession(context)),
    route('session.read', 'GET', '/v1/whoami', async (context) => handlers.whoami(context), { isPublic: true }),
    route('token.mint', 'POST', '/v1/token', async (context) => handlers.mintToken(context)),
    route('kubernetes.use', 'POST', '/v1/kubernetes-credential', async (context) =>
      handlers.kubernetesCredential(context),
    ),
    route(
      'state.read',
      'GET',
      '/v1/virtual-organizations/{name}/state',
      async (context) => handlers.readState(context),
      {
        isPublic: true,
      },
    ),
    route(
      'nodes.select',
      'POST',
      '/v1/virtual-organizations/{name}/selection',
      async (context) => handlers.selectNodes(context),
      { isPublic: true },
    ),
    // As guessable as a login, so as seldom.
    route('peer.join', 'POST', '/v1/peers', async (context) => handlers.joinPeers(context), { isLogin: true }),
    route('membership.request', 'POST', '/v1/virtual-organizations/{name}/requests', async (context) =>
      handlers.join(context),
    ),
  ];
}

class Handlers {
  private readonly parts: RouteParts;

  constructor(parts: RouteParts) {
    this.parts = parts;
  }

  async readSite(): Promise<RouteAnswer> {
    const { logins, site, address, version } = this.parts;
    const identityProviders = (logins.site?.identityProviders ?? []).map((each) =>
      each.type === 'OpenIDConnect'
        ? { name: each.name, type: each.type, issuer: each.openIDConnect.issuer }
        : { name: each.name, type: each.type },
    );
    const kubernetesLogin = logins.site?.kubernetesLogin === true;
    return { status: 200, body: { site, address, version, kubernetesLogin, identityProviders } };
  }

  async joinPeers(context: RequestContext): Promise<RouteAnswer> {
    const { invitations, site } = this.parts;
    const request = readBody(peerRequest, context.body);
    context.concern('Site', request.site);
    await invitations.redeem(request, context.signal);
    return { status: 201, body: { site }, why: 'Invited' };
  }

  async createSession(context: RequestContext): Promise<RouteAnswer> {
    const { logins, sessions, metrics } = this.parts;
    const request = readBody(sessionRequest, context.body);
    context.concern('Login', request.method);
    const count = (result: string): void => metrics.logins.inc({ method: request.method, result });
    try {
      const result = await logins.step(request, context);
      if ('method' in result) {
        count('Pending');
        return { status: 202, body: result, why: 'LoginPending' };
      }
      context.identify(result.principal);
      const answer = await sessions.begin(result, request.method, context.signal);
      count('OK');
      return { status: 201, body: answer, why: 'LoggedIn' };
    } catch (error) {
      count(error instanceof Refusal ? error.code : 'Unavailable');
      throw error;
    }
  }

  async refreshSession(context: RequestContext): Promise<RouteAnswer> {
    const { refreshToken, attempt } = readBody(refreshRequest, context.body);
    const answer = await this.parts.sessions.refresh(refreshToken, attempt, context.signal);
    context.identify(answer.principal);
    return { status: 200, body: answer };
  }

  async endSession(context: RequestContext): Promise<RouteAnswer> {
    const session = await this.session(context);
    await this.parts.sessions.end(session.id, context.signal);
    return { status: 204, why: 'LoggedOut' };
  }

  async whoami(context: RequestContext): Promise<RouteAnswer> {
    const { principal, endsMs, virtualOrganizations } = await this.session(context);
    const isCovered = ({ vo }: Member): boolean => virtualOrganizations?.includes(vo.metadata.name) !== false;
    const own = this.parts.members.of(principal).filter(isCovered);
    const memberships = own.map((member) => this.describe(member));
    const expiresAt = new Date(endsMs).toISOString();
    return { status: 200, body: { site: this.parts.site, principal, expiresAt, virtualOrganizations, memberships } };
  }

  async mintToken(context: RequestContext): Promise<RouteAnswer> {
    const session = await this.session(context);
    const { virtualOrganization, audience, scope, lifetimeSeconds } = readBody(tokenRequest, context.body);
    context.concern('VirtualOrganization', virtualOrganization);
    context.concern('Audience', audience);
    if (scope !== undefined) checkScope(scope);
    const member = this.allowed(session, virtualOrganization, 'token.mint');
    const content = tokenContent(member, audience, scope);
    const minted = await this.parts.minter
      .mint(member.vo, content, lifetimeSeconds ?? accessTokenLifetimeMaxSeconds)
      .catch(notYet);
    this.parts.metrics.tokens.inc();
    context.concern('Token', minted.jti);
    const expiresAt = new Date(minted.expiresAtMs).toISOString();
    return { status: 200, body: { accessToken: minted.token, tokenType: 'Bearer', expiresAt } };
  }

  async kubernetesCredential(context: RequestContext): Promise<RouteAnswer> {
    const { memberTokens, apiServer, metrics } = this.parts;
    const session = await this.session(context);
    const { virtualOrganization } = readBody(kubernetesCredentialRequest, context.body);
    context.concern('VirtualOrganization', virtualOrganization);
    const { membership } = this.allowed(session, virtualOrganization, 'kubernetes.use');
    const userName = membership.status?.userName ?? '';
    const namespace = `vo-${virtualOrganization}`;
    context.concern('ServiceAccount', userName);
    const issued = await memberTokens.issue(membership, accessTokenLifetimeMaxSeconds, context.signal);
    metrics.credentials.inc();
    const { server, caBundle } = await apiServer();
    const expiresAt = new Date(issued.expirationTimestamp).toISOString();
    return { status: 200, body: { server, caBundle, namespace, userName, token: issued.token, expiresAt } };
  }

  async readState({ parameters }: RequestContext): Promise<RouteAnswer> {
    const { members, minter } = this.parts;
    const name = parameters.name ?? '';
    const vo = members.organization(name);
    if (vo === undefined) throw new Refusal('NotFound', `There is no virtual organization ${name} at this site.`);
    const documents = await minter.documents(vo).catch(notYet);
    return { status: 200, body: { virtualOrganization: name, ...documents } };
  }

  async selectNodes(context: RequestContext): Promise<RouteAnswer> {
    const session = await this.session(context);
    const name = context.parameters.name ?? '';
    context.concern('VirtualOrganization', name);
    this.allowed(session, name, 'nodes.select');
    const { explorer } = this.parts;
    if (explorer === undefined) throw new Refusal('NotFound', 'This site runs no selectors.');
    return { status: 200, body: await explorer.explore(name, readBody(selectionRequest, context.body)) };
  }

  async join(context: RequestContext): Promise<RouteAnswer> {
    const session = await this.session(context);
    const { principal } = session;
    const name = context.parameters.name ?? '';
    context.concern('VirtualOrganization', name);
    checkCovers(session, name);
    const request = readBody(joinRequest, context.body);
    const { isNew, answer } = await this.parts.enrolment.ask(principal, name, request, context.signal).catch(notYet);
    context.concern('VOMembership', answer.membership);
    const why = request.acceptedUse === undefined ? 'Asked' : 'UseAccepted';
    return { status: isNew ? 201 : 200, body: answer, why };
  }

  private async session(context: RequestContext): Promise<Session> {
    if (context.bearer === undefined) {
      throw new Refusal(
        'Unauthenticated',
        'Give a session token: Authorization: Bearer …; POST /v1/sessions gives one.',
      );
    }
    const session = await this.parts.sessions.check(context.bearer, context.signal);
    context.identify(session.principal);
    return session;
  }

  /** The membership of whoever asks, when they may do this. @throws {Refusal} */
  private allowed(session: Session, organization: string, action: string): Member {
    checkCovers(session, organization);
    const member = this.parts.members.find(session.principal, organization);
    if (member === undefined) {
      throw new Refusal(
        'Forbidden',
        `You are no member of ${organization} at this site: ask to join with xos vo join ${organization}.`,
        {
          policy: 'vo/membership',
          reason: 'NotAMember',
        },
      );
    }
    this.parts.members.demand(member, { name: action, nowMs: this.parts.clock.now() });
    return member;
  }

  private describe(member: Member): z.infer<typeof membershipAnswer> {
    const { membership, vo } = member;
    const { spec, status } = membership;
    const { allowed, message } = this.parts.members.decide(member, {
      name: 'session.read',
      nowMs: this.parts.clock.now(),
    });
    return {
      virtualOrganization: vo.metadata.name,
      membership: membership.metadata.name,
      state: status?.state ?? 'Requested',
      usable: allowed,
      reason: message,
      ...(status?.userName === undefined ? {} : { userName: status.userName }),
      ...(status?.uid === undefined ? {} : { uid: status.uid }),
      ...(status?.gid === undefined ? {} : { gid: status.gid }),
      groups: (status?.gids ?? []).map(({ group, gid }) => ({ name: group, gid })),
      roles: spec.roles,
      ...(spec.expirationTime === undefined ? {} : { expiresAt: new Date(spec.expirationTime).toISOString() }),
    };
  }
}

function checkScope(scope: string): void {
  try {
    parseScopes(scope);
  } catch (error) {
    if (error instanceof InvalidInputError) throw new Refusal('InvalidRequest', error.message);
    throw error;
  }
}

function notYet(error: unknown): never {
  if (!(error instanceof MintingError)) throw error;
  throw new Refusal('Unavailable', `Not now: ${error.message}.`, {
    reason: 'NothingSigned',
    retryAfterSeconds: 5,
    cause: error,
  });
}
