/** Acts at a gateway as the session of the user, refreshing it where needed. */
import { randomBytes } from 'node:crypto';
import {
  kubernetesCredentialAnswer,
  type KubernetesCredentialAnswer,
  sessionAnswer,
} from '#common/identity/gateway-api.ts';
import { CommandError } from '../frame/exit.ts';
import { type Gateway, type GatewayAddress, type GatewayAnswer, GatewayError, parseAnswer } from './gateway.ts';
import { type SessionStore, type StoredSession, withAnswer } from './sessions.ts';

/** A token is not used in its last half minute: the request is under way then. */
const marginMs = 30_000;

/** What a session needs to act. */
export interface SessionPorts {
  readonly store: SessionStore;
  readonly connect: (address: GatewayAddress) => Gateway;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** True until shortly before the moment. */
export function isFresh(expiresAt: string, nowMs: number): boolean {
  return Date.parse(expiresAt) - marginMs > nowMs;
}

/**
 * The session at a site with a fresh session token. Two processes at once refresh one after the other, and the second
 * finds the work done: a refresh token is good once, and using it twice would end the session. The attempt is stored before it
 * is made, so that it can be made again when this process or the gateway dies before the answer is stored.
 * @throws {CommandError} when there is no session, or it has ended.
 */
export async function freshSession(site: string, { store, connect, now }: SessionPorts): Promise<StoredSession> {
  const stored = await store.find(site);
  if (stored !== undefined && isFresh(stored.sessionTokenExpiresAt, now())) return stored;
  let ended: GatewayError | undefined;
  const session = await store.update(site, async (current, keep) => {
    if (current === undefined || isFresh(current.sessionTokenExpiresAt, now())) return current;
    if (!isFresh(current.expiresAt, now())) return undefined;
    try {
      const { refreshAttempt: attempt = randomBytes(32).toString('base64url'), ...session } = current;
      if (current.refreshAttempt === undefined) await keep({ ...session, refreshAttempt: attempt });
      const body = { refreshToken: session.refreshToken, attempt };
      const answer = await connect(session).send('POST', '/v1/sessions/refresh', body, {});
      return withAnswer(session, parseAnswer(sessionAnswer, answer));
    } catch (error) {
      if (!(error instanceof GatewayError) || error.reason !== 'credentials') throw error;
      ended = error;
      return undefined;
    }
  });
  if (session !== undefined) return session;
  if (ended !== undefined) throw ended;
  const message = stored === undefined ? `You are not logged in at ${site}` : `Your session at ${site} has ended`;
  throw new CommandError('credentials', message, 'Log in: xos login');
}

/** Sends a request as the session. */
export async function sendAsSession(
  site: string,
  ports: SessionPorts,
  request: { readonly method: string; readonly path: string; readonly body?: unknown },
): Promise<GatewayAnswer> {
  const session = await freshSession(site, ports);
  return ports.connect(session).send(request.method, request.path, request.body, { bearer: session.sessionToken });
}

/** A credential for the API server as a member of one virtual organization, from the cache while it is fresh. */
export async function kubernetesCredential(
  site: string,
  virtualOrganization: string,
  ports: SessionPorts,
): Promise<KubernetesCredentialAnswer> {
  const cached = (await ports.store.find(site))?.kubernetes[virtualOrganization];
  if (cached !== undefined && isFresh(cached.expiresAt, ports.now())) return cached;
  const request = { method: 'POST', path: '/v1/kubernetes-credential', body: { virtualOrganization } };
  const credential = parseAnswer(kubernetesCredentialAnswer, await sendAsSession(site, ports, request));
  await ports.store.update(site, async (current) => {
    if (current === undefined) return undefined;
    return { ...current, kubernetes: { ...current.kubernetes, [virtualOrganization]: credential } };
  });
  return credential;
}
