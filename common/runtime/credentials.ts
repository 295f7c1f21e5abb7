import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { InvalidInputError } from '#common/errors.ts';

/** TLS material, PEM. */
export interface TlsMaterial {
  readonly ca?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
  readonly passphrase?: string | undefined;
  readonly servername?: string | undefined;
  /** False only when the kubeconfig says `insecure-skip-tls-verify`. */
  readonly rejectUnauthorized: boolean;
}

/** How to reach one cluster as one identity, at this moment. */
export interface Credentials {
  /** Scheme, host and port. */
  readonly origin: string;
  /** Path before every API path; empty for most servers. */
  readonly basePath: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly tls: TlsMaterial;
  /** URL of an HTTP proxy. */
  readonly proxy?: string | undefined;
}

/** Where credentials come from. Asked again every minute, and when the server answers 401. */
export interface CredentialSource {
  /** @param renew - the last credentials were refused: don't answer from a cache. */
  load(renew: boolean): Promise<Credentials>;
}

/** The same cluster as somebody else, known by a bearer token alone. */
export function withBearer(source: CredentialSource, token: string): CredentialSource {
  return {
    load: async (renew) => {
      const { origin, basePath, proxy, tls } = await source.load(renew);
      const { ca, servername, rejectUnauthorized } = tls;
      const headers = { authorization: `Bearer ${token}` };
      return { origin, basePath, headers, proxy, tls: { ca, servername, rejectUnauthorized } };
    },
  };
}

/** Where the kubelet mounts a service account. */
export const serviceAccountFolder = '/var/run/secrets/kubernetes.io/serviceaccount';

/** Inputs of {@link inClusterCredentials}. */
export interface InClusterOptions {
  /** Folder with `token` and `ca.crt`; default {@link serviceAccountFolder}. */
  readonly folder?: string | undefined;
  /** Default `KUBERNETES_SERVICE_HOST`. */
  readonly host?: string | undefined;
  /** Default `KUBERNETES_SERVICE_PORT`. */
  readonly port?: string | undefined;
}

/** True when this process runs in a pod with a service account. */
export function isInCluster(): boolean {
  return (process.env.KUBERNETES_SERVICE_HOST ?? '') !== '';
}

/**
 * The pod's service account. The files are read anew each time, since the kubelet rotates them.
 * Plain enough to need no client-node, which would cost the process 60 MB.
 */
export function inClusterCredentials(options: InClusterOptions = {}): CredentialSource {
  const folder = options.folder ?? serviceAccountFolder;
  const host = options.host ?? process.env.KUBERNETES_SERVICE_HOST ?? '';
  const port = options.port ?? process.env.KUBERNETES_SERVICE_PORT ?? '443';
  if (host === '') {
    throw new InvalidInputError('KUBERNETES_SERVICE_HOST', 'is empty: run in a pod, or name a kubeconfig file');
  }
  const origin = `https://${host.includes(':') ? `[${host}]` : host}:${port}`;
  return {
    load: async () => {
      const [token, ca] = await Promise.all([
        readFile(path.join(folder, 'token'), 'utf8'),
        readFile(path.join(folder, 'ca.crt'), 'utf8'),
      ]);
      return {
        origin,
        basePath: '',
        headers: { authorization: `Bearer ${token.trim()}` },
        tls: { ca, rejectUnauthorized: true },
      };
    },
  };
}

/** Inputs of {@link kubeConfigCredentials}. */
export interface KubeConfigOptions {
  /** Default: `KUBECONFIG`, then `~/.kube/config`. */
  readonly file?: string | undefined;
  /** Default: the file's current context. */
  readonly context?: string | undefined;
}

/** What client-node's KubeConfig fills in; it types them after node:https. */
interface HttpsOptions {
  ca?: Buffer | string;
  cert?: Buffer | string;
  key?: Buffer | string;
  passphrase?: string;
  servername?: string;
  rejectUnauthorized?: boolean;
  headers?: Record<string, string>;
  auth?: string;
}

/**
 * A kubeconfig file, with all that client-node can authenticate by: certificates, tokens, token files, exec plug-ins,
 * OIDC. On renewal the file is read again, which also drops client-node's own token caches.
 * @throws {InvalidInputError} from `load`, when the context names no cluster or the cluster needs a SOCKS proxy.
 */
export function kubeConfigCredentials(options: KubeConfigOptions = {}): CredentialSource {
  let config: Awaited<ReturnType<typeof readConfig>> | undefined;
  return {
    load: async (renew) => {
      if (config === undefined || renew) config = await readConfig(options);
      const cluster = config.getCurrentCluster();
      if (cluster === null) {
        throw new InvalidInputError(
          'kubeconfig',
          `context ${config.currentContext} names no cluster: set one with --context`,
        );
      }
      if (cluster.proxyUrl?.startsWith('socks') === true) {
        throw new InvalidInputError('proxy-url', `SOCKS (${cluster.proxyUrl}) is not supported: use an HTTP proxy`);
      }
      const https: HttpsOptions = {};
      await config.applyToHTTPSOptions(https);
      const url = new URL(cluster.server);
      return {
        origin: url.origin,
        basePath: url.pathname === '/' ? '' : url.pathname.replace(/\/$/, ''),
        headers: headersOf(https),
        tls: {
          ca: textOf(https.ca),
          cert: textOf(https.cert),
          key: textOf(https.key),
          passphrase: https.passphrase,
          servername: https.servername,
          rejectUnauthorized: https.rejectUnauthorized ?? true,
        },
        proxy: cluster.proxyUrl,
      };
    },
  };
}

/** The usual order: in a pod its service account, elsewhere the kubeconfig; a named file before both. */
export function defaultCredentials(options: KubeConfigOptions = {}): CredentialSource {
  const named = options.file !== undefined || options.context !== undefined;
  return !named && isInCluster() ? inClusterCredentials() : kubeConfigCredentials(options);
}

async function readConfig(options: KubeConfigOptions) {
  const { KubeConfig } = await import('@kubernetes/client-node');
  const config = new KubeConfig();
  if (options.file === undefined) config.loadFromDefault();
  else config.loadFromFile(options.file);
  if (options.context !== undefined) config.setCurrentContext(options.context);
  return config;
}

function headersOf(https: HttpsOptions): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(https.headers ?? {})) headers[name.toLowerCase()] = value;
  if (https.auth !== undefined) headers.authorization = `Basic ${Buffer.from(https.auth).toString('base64')}`;
  return headers;
}

function textOf(pem: Buffer | string | undefined): string | undefined {
  return typeof pem === 'string' || pem === undefined ? pem : pem.toString('utf8');
}
