/** Credentials of one context of a kubeconfig, for the runtime's transport. */
import { readFile } from 'node:fs/promises';
import { InvalidInputError } from '#common/errors.ts';
import type { Credentials, CredentialSource, TlsMaterial } from '#runtime/credentials.ts';
import type { ClusterEntry, KubeConfig, UserEntry } from './kubeconfig.ts';

/** What an exec plug-in or the own session yields. */
export interface ExecCredential {
  readonly token?: string | undefined;
  readonly clientCertificateData?: string | undefined;
  readonly clientKeyData?: string | undefined;
  /** RFC 3339; absent: good until the process ends. */
  readonly expirationTimestamp?: string | undefined;
}

/** Runs exec plug-ins. */
export type ExecRunner = (
  user: UserEntry & { readonly exec: NonNullable<UserEntry['exec']> },
  cluster: ClusterEntry,
) => Promise<ExecCredential>;

/** A context with its parts. */
export interface ChosenContext {
  readonly name: string;
  readonly namespace: string;
  readonly cluster: ClusterEntry & { readonly server: string };
  readonly user: UserEntry;
}

/**
 * The named context, or the current one.
 * @throws {InvalidInputError} when there is none, or its cluster or user is missing.
 */
export function chooseContext(config: KubeConfig, named: string | undefined): ChosenContext {
  const name = named ?? config.currentContext;
  if (name === undefined) {
    throw new InvalidInputError(
      'kubeconfig',
      `no current context in ${config.files.join(', ')}: log in with xos login, or name a context with --context`,
    );
  }
  const context = config.contexts.get(name);
  if (context === undefined) {
    const known = [...config.contexts.keys()].slice(0, 20).join(', ');
    throw new InvalidInputError('--context', `${JSON.stringify(name)} is not in the kubeconfig; it has: ${known}`);
  }
  const cluster = config.clusters.get(context.cluster);
  if (cluster?.server === undefined) {
    throw new InvalidInputError(
      'kubeconfig',
      `cluster ${context.cluster} of context ${name} is missing or has no server`,
    );
  }
  const user = config.users.get(context.user);
  if (user === undefined) {
    throw new InvalidInputError('kubeconfig', `user ${context.user} of context ${name} is missing`);
  }
  const server = cluster.server;
  return { name, namespace: context.namespace ?? 'default', cluster: { ...cluster, server }, user };
}

/** Credentials of a context. A token or certificate from a plug-in is asked for again when the server refuses it. */
export function contextCredentials(context: ChosenContext, runExec: ExecRunner): CredentialSource {
  let issued: ExecCredential | undefined;
  return {
    load: async (renew) => {
      const { exec } = context.user;
      const user = { ...context.user, exec };
      if (exec !== undefined && (renew || issued === undefined || isOver(issued))) {
        issued = await runExec({ ...user, exec }, context.cluster);
      }
      return credentialsOf(context.cluster, context.user, issued);
    },
  };
}

/** A minute before the end, so that no request is under way when it comes. */
const marginMs = 60_000;

function isOver({ expirationTimestamp }: ExecCredential): boolean {
  return expirationTimestamp !== undefined && Date.parse(expirationTimestamp) - marginMs < Date.now();
}

async function credentialsOf(
  cluster: ChosenContext['cluster'],
  user: UserEntry,
  issued: ExecCredential | undefined,
): Promise<Credentials> {
  if (user['auth-provider'] !== undefined) {
    throw new InvalidInputError('auth-provider', 'is not supported, as in kubectl since 1.26: use an exec plug-in');
  }
  const proxy = cluster['proxy-url'];
  if (proxy?.startsWith('socks') === true) {
    throw new InvalidInputError('proxy-url', `SOCKS (${proxy}) is not supported: use an HTTP proxy`);
  }
  const url = new URL(cluster.server);
  return {
    origin: url.origin,
    basePath: url.pathname.replace(/\/$/, ''),
    headers: { ...(await authorizationOf(user, issued)), ...impersonationOf(user) },
    tls: await tlsOf(cluster, user, issued),
    proxy,
  };
}

async function authorizationOf(user: UserEntry, issued: ExecCredential | undefined): Promise<Record<string, string>> {
  const inFile = user.tokenFile === undefined ? undefined : (await readFile(user.tokenFile, 'utf8')).trim();
  const token = issued?.token ?? inFile ?? user.token;
  if (token !== undefined && token !== '') return { authorization: `Bearer ${token}` };
  if (user.username === undefined) return {};
  const pair = Buffer.from(`${user.username}:${user.password ?? ''}`).toString('base64');
  return { authorization: `Basic ${pair}` };
}

function impersonationOf(user: UserEntry): Record<string, string> {
  const headers: Record<string, string> = {};
  if (user.as !== undefined) headers['impersonate-user'] = user.as;
  if (user['as-uid'] !== undefined) headers['impersonate-uid'] = user['as-uid'];
  if ((user['as-groups'] ?? []).length > 0) {
    throw new InvalidInputError('as-groups', 'is not supported: use kubectl with --as-group');
  }
  return headers;
}

async function tlsOf(cluster: ClusterEntry, user: UserEntry, issued: ExecCredential | undefined): Promise<TlsMaterial> {
  const [ca, cert, key] = await Promise.all([
    pemOf(cluster['certificate-authority-data'], cluster['certificate-authority']),
    pemOf(user['client-certificate-data'], user['client-certificate']),
    pemOf(user['client-key-data'], user['client-key']),
  ]);
  return {
    ca,
    cert: issued?.clientCertificateData ?? cert,
    key: issued?.clientKeyData ?? key,
    servername: cluster['tls-server-name'],
    rejectUnauthorized: cluster['insecure-skip-tls-verify'] !== true,
  };
}

async function pemOf(data: string | undefined, file: string | undefined): Promise<string | undefined> {
  if (data !== undefined && data !== '') return Buffer.from(data, 'base64').toString('utf8');
  if (file === undefined || file === '') return undefined;
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new InvalidInputError('kubeconfig', `${file} can't be read`, { cause: error });
  }
}
