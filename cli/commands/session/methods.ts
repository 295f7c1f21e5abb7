/** The ways to log in. */
import { createHash, randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { z } from 'zod';
import { describeError, InvalidInputError } from '#common/errors.ts';
import { pendingAnswer, sessionAnswer, type SessionAnswer, type siteAnswer } from '#common/identity/gateway-api.ts';
import type { ClusterInput } from '../../api/cluster.ts';
import { chooseContext, contextCredentials } from '../../api/credentials.ts';
import { execRunner } from '../../api/exec.ts';
import { type Gateway, type GatewayAnswer, type GatewayIdentity, parseAnswer } from '../../api/gateway.ts';
import { readKubeconfig } from '../../api/kubeconfig.ts';
import type { Context } from '../../frame/context.ts';
import { CommandError } from '../../frame/exit.ts';
import { formatSpan } from '../../output/times.ts';
import { openBrowser, Redirect } from './redirect.ts';

/** Options that choose how to log in. */
export interface MethodInput extends ClusterInput {
  readonly issuer: string | undefined;
  readonly device: boolean;
  readonly kubernetes: boolean;
  readonly certificate: string | undefined;
  readonly key: string | undefined;
  readonly provider: string | undefined;
  /** The session is for these virtual organizations alone; empty: for all. */
  readonly vo: readonly string[];
}

type SiteAnswer = z.infer<typeof siteAnswer>;
type Method =
  | { readonly kind: 'kubernetes' }
  | { readonly kind: 'certificate'; readonly provider: string }
  | { readonly kind: 'device' | 'code'; readonly provider: string };

/**
 * How to log in: what the options say, else the only OpenID provider of the site, else its Kubernetes users.
 * @throws {InvalidInputError} when the site offers no such way, or several and none was chosen.
 */
export function chooseMethod(site: SiteAnswer, input: MethodInput): Method {
  const { issuer, device, kubernetes, certificate, provider } = input;
  if ([issuer !== undefined || device, kubernetes, certificate !== undefined].filter(Boolean).length > 1) {
    throw new InvalidInputError('login', '--kubernetes, --certificate and --issuer or --device exclude each other');
  }
  if (kubernetes) {
    if (site.kubernetesLogin) return { kind: 'kubernetes' };
    throw new InvalidInputError(
      '--kubernetes',
      `site ${site.site} lets its Kubernetes users not log in (${waysOf(site)})`,
    );
  }
  if (certificate !== undefined) {
    const authorities = site.identityProviders.filter(({ type }) => type === 'ClientCertificate');
    return { kind: 'certificate', provider: pick(site, authorities, provider, '--provider').name };
  }
  const providers = site.identityProviders.filter((one) => one.type === 'OpenIDConnect');
  if (issuer === undefined && !device && providers.length === 0 && site.kubernetesLogin) return { kind: 'kubernetes' };
  return { kind: device ? 'device' : 'code', provider: pick(site, providers, issuer, '--issuer').name };
}

function pick<P extends { readonly name: string }>(
  site: SiteAnswer,
  offered: readonly P[],
  wanted: string | undefined,
  option: string,
): P {
  const fitting = offered.filter((one) => {
    const issuer = 'issuer' in one ? one.issuer : undefined;
    return wanted === undefined || one.name === wanted || issuer === wanted;
  });
  const [only] = fitting;
  if (only !== undefined && fitting.length === 1) return only;
  const problem = wanted === undefined ? 'is needed: say which provider' : `${JSON.stringify(wanted)} is none here`;
  throw new InvalidInputError(option, `${problem}; site ${site.site} offers ${waysOf(site)}`);
}

function waysOf(site: SiteAnswer): string {
  const ways = site.identityProviders.map((one) =>
    one.type === 'OpenIDConnect' ? `--issuer ${one.name} (${one.issuer})` : `--certificate FILE --provider ${one.name}`,
  );
  const all = [...ways, ...(site.kubernetesLogin ? ['--kubernetes'] : [])];
  return all.length === 0 ? 'no way to log in: its owner sets identityProviders of the Site' : all.join(', ');
}

/** Begins a session; asks the user for what it takes. */
export async function openSession(
  context: Context,
  gateway: Gateway,
  method: Method,
  input: MethodInput,
  limitMs: number | undefined,
): Promise<SessionAnswer> {
  const begin = async (body: object, identity: GatewayIdentity = {}): Promise<GatewayAnswer> =>
    gateway.send('POST', '/v1/sessions', body, identity);
  const narrowed = input.vo.length === 0 ? {} : { virtualOrganizations: input.vo };
  switch (method.kind) {
    case 'kubernetes':
      return parseAnswer(
        sessionAnswer,
        await begin({ method: 'kubernetes', ...narrowed }, await kubernetesIdentity(context, input)),
      );
    case 'certificate': {
      const body = { method: 'certificate', provider: method.provider, ...narrowed };
      return parseAnswer(sessionAnswer, await begin(body, await certificateIdentity(input)));
    }
    case 'device':
      return deviceFlow(context, begin, { provider: method.provider, ...narrowed }, limitMs);
    case 'code':
      return codeFlow(context, begin, { provider: method.provider, ...narrowed }, limitMs);
  }
}

type Begin = (body: object) => Promise<GatewayAnswer>;
/** At which provider, and for what. */
interface Start {
  readonly provider: string;
  readonly virtualOrganizations?: readonly string[];
}

async function kubernetesIdentity(context: Context, input: ClusterInput): Promise<GatewayIdentity> {
  const config = await readKubeconfig(input.kubeconfig, context.surroundings);
  const chosen = chooseContext(config, input.context);
  if (chosen.user.as !== undefined) {
    throw new InvalidInputError('as', `context ${chosen.name} impersonates another user: log in as yourself`);
  }
  const source = contextCredentials(chosen, execRunner(context.surroundings, context.program));
  const { headers, tls } = await source.load(false);
  const bearer = /^Bearer (.+)$/.exec(headers.authorization ?? '')?.[1];
  if (bearer !== undefined) return { bearer };
  if (tls.cert !== undefined && tls.key !== undefined) return { cert: tls.cert, key: tls.key };
  throw new CommandError('credentials', `Context ${chosen.name} has neither a token nor a client certificate`);
}

async function certificateIdentity({ certificate, key }: MethodInput): Promise<GatewayIdentity> {
  const read = async (file: string, flag: string): Promise<string> => {
    try {
      return await readFile(file, 'utf8');
    } catch (error) {
      throw new InvalidInputError(flag, `${file} can't be read (${describeError(error)})`);
    }
  };
  const cert = await read(certificate ?? '', '--certificate');
  const pem = key === undefined ? cert : await read(key, '--key');
  if (!pem.includes('PRIVATE KEY-----')) {
    throw new InvalidInputError('--key', `${key ?? certificate ?? ''} holds no private key (PEM): give its file`);
  }
  return { cert, key: pem };
}

/** A secret that only this process knows, and its digest that goes first (RFC 7636 §4). */
function proof(): { readonly verifier: string; readonly challenge: string } {
  const verifier = randomBytes(32).toString('base64url');
  return { verifier, challenge: createHash('sha256').update(verifier).digest('base64url') };
}

/** RFC 8628: the user types a code at the gateway in a browser anywhere, logs in and agrees there; this program asks until that is done. */
async function deviceFlow(
  context: Context,
  begin: Begin,
  start: Start,
  limitMs: number | undefined,
): Promise<SessionAnswer> {
  const { terminal, clock, signal } = context;
  const { verifier, challenge } = proof();
  let pending = parseAnswer(pendingAnswer, await begin({ method: 'device', challenge, ...start }));
  if (pending.method !== 'device') throw new CommandError('failure', 'The gateway answered another method than asked');
  const { userCode, verificationURI, verificationURIComplete } = pending;
  const endsAt = Math.min(Date.parse(pending.expiresAt), limitMs === undefined ? Infinity : clock.now() + limitMs);
  terminal.say(
    `Open ${verificationURI ?? ''} in a browser, on any device, and type the code\n\n    ${userCode ?? ''}\n`,
  );
  if (verificationURIComplete !== undefined) terminal.say(`Or open ${verificationURIComplete}`);
  for (;;) {
    const leftMs = endsAt - clock.now();
    if (leftMs <= 0)
      throw new CommandError('credentials', 'Nobody typed the code in time', 'Try again: xos login --device');
    terminal.progress(`Waiting for the browser, ${formatSpan(leftMs / 1000)} left`);
    await clock.sleep(Math.min(pending.intervalSeconds * 1000, leftMs), signal);
    const answer = await begin({ method: 'device', handle: pending.handle, verifier });
    terminal.clear();
    if (answer.status !== 202) return parseAnswer(sessionAnswer, answer);
    const next = parseAnswer(pendingAnswer, answer);
    if (next.method === 'device') pending = next;
  }
}

/** RFC 8252: the browser comes back to a port of this machine. Five minutes, unless the provider says less. */
async function codeFlow(
  context: Context,
  begin: Begin,
  start: Start,
  limitMs: number | undefined,
): Promise<SessionAnswer> {
  const { terminal, clock, signal, surroundings } = context;
  const { verifier, challenge } = proof();
  await using redirect = await Redirect.listen();
  const pending = parseAnswer(
    pendingAnswer,
    await begin({ method: 'code', challenge, redirectURI: redirect.uri, ...start }),
  );
  if (pending.method !== 'code') throw new CommandError('failure', 'The gateway answered another method than asked');
  terminal.say(`Log in in the browser. If none opens, open this yourself:\n\n    ${pending.authorizationURL}\n`);
  openBrowser(pending.authorizationURL, surroundings.env);
  const leftMs = Math.min(Date.parse(pending.expiresAt) - clock.now(), limitMs ?? Infinity);
  terminal.progress('Waiting for the browser (on a machine without one: --device)');
  const limit = AbortSignal.timeout(Math.max(1, leftMs));
  const callbackURL = await redirect.arrival(AbortSignal.any([signal, limit])).catch((error: unknown) => {
    if (!limit.aborted) throw error;
    throw new CommandError('credentials', 'The browser did not come back in time', 'Try again, or with --device.');
  });
  terminal.clear();
  return parseAnswer(sessionAnswer, await begin({ method: 'code', handle: pending.handle, verifier, callbackURL }));
}
