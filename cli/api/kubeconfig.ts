/**
 * Reads kubeconfig files as kubectl does: `--kubeconfig`, or every file of KUBECONFIG merged with the first word on each
 * name, or ~/.kube/config. client-node could do it too, but takes longer to load than most commands run.
 * Source: https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/
 */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { InvalidInputError, systemErrorCode } from '#common/errors.ts';
import type { Surroundings } from '../frame/context.ts';

/** A cluster entry; paths are absolute. */
export interface ClusterEntry {
  readonly server?: string;
  readonly 'certificate-authority'?: string;
  readonly 'certificate-authority-data'?: string;
  readonly 'insecure-skip-tls-verify'?: boolean;
  readonly 'tls-server-name'?: string;
  readonly 'proxy-url'?: string;
}

/** How an exec credential plug-in is called. */
export interface ExecEntry {
  readonly apiVersion?: string;
  readonly command?: string;
  readonly args?: readonly string[] | null;
  readonly env?: readonly { readonly name: string; readonly value: string }[] | null;
  readonly installHint?: string;
  readonly provideClusterInfo?: boolean;
  readonly interactiveMode?: string;
}

/** A user entry; paths are absolute. */
export interface UserEntry {
  readonly 'client-certificate'?: string;
  readonly 'client-certificate-data'?: string;
  readonly 'client-key'?: string;
  readonly 'client-key-data'?: string;
  readonly token?: string;
  readonly tokenFile?: string;
  readonly username?: string;
  readonly password?: string;
  readonly as?: string;
  readonly 'as-uid'?: string;
  readonly 'as-groups'?: readonly string[];
  readonly exec?: ExecEntry;
  readonly 'auth-provider'?: unknown;
}

/** A context entry. */
export interface ContextEntry {
  readonly cluster: string;
  readonly user: string;
  readonly namespace?: string;
}

/** All files merged. */
export interface KubeConfig {
  readonly files: readonly string[];
  readonly currentContext: string | undefined;
  readonly clusters: ReadonlyMap<string, ClusterEntry>;
  readonly users: ReadonlyMap<string, UserEntry>;
  readonly contexts: ReadonlyMap<string, ContextEntry>;
}

/** Files that would be read, whether they exist or not. */
export function kubeconfigFiles(named: string | undefined, { env, homeDir }: Surroundings): string[] {
  if (named !== undefined) return [path.resolve(named)];
  const listed = (env.KUBECONFIG ?? '').split(path.delimiter).filter((file) => file !== '');
  return listed.length > 0 ? [...new Set(listed)] : [path.join(homeDir, '.kube', 'config')];
}

/**
 * Reads and merges.
 * @throws {InvalidInputError} for a named file that isn't there, or one that is no kubeconfig.
 */
export async function readKubeconfig(named: string | undefined, surroundings: Surroundings): Promise<KubeConfig> {
  const files = kubeconfigFiles(named, surroundings);
  const clusters = new Map<string, ClusterEntry>();
  const users = new Map<string, UserEntry>();
  const contexts = new Map<string, ContextEntry>();
  let currentContext: string | undefined;
  for (const file of files) {
    const content = await readOne(file, named !== undefined);
    if (content === undefined) continue;
    const folder = path.dirname(path.resolve(file));
    for (const [name, cluster] of entriesOf<ClusterEntry>(content, 'clusters', 'cluster')) {
      if (!clusters.has(name)) clusters.set(name, resolvePaths(cluster, folder, ['certificate-authority']));
    }
    for (const [name, user] of entriesOf<UserEntry>(content, 'users', 'user')) {
      if (!users.has(name))
        users.set(name, resolvePaths(user, folder, ['client-certificate', 'client-key', 'tokenFile']));
    }
    for (const [name, context] of entriesOf<ContextEntry>(content, 'contexts', 'context')) {
      if (!contexts.has(name)) contexts.set(name, context);
    }
    const current = content['current-context'];
    if (currentContext === undefined && typeof current === 'string' && current !== '') currentContext = current;
  }
  return { files, currentContext, clusters, users, contexts };
}

async function readOne(file: string, mustExist: boolean): Promise<Record<string, unknown> | undefined> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT' && !mustExist) return undefined;
    throw new InvalidInputError('kubeconfig', `${file} can't be read: check the path and its rights`, { cause: error });
  }
  const { parse } = await import('yaml');
  let content: unknown;
  try {
    content = parse(text);
  } catch (error) {
    throw new InvalidInputError('kubeconfig', `${file} is not YAML`, { cause: error });
  }
  if (content === null || content === undefined) return undefined;
  if (typeof content !== 'object' || Array.isArray(content)) {
    throw new InvalidInputError('kubeconfig', `${file} is not a kubeconfig: it must hold clusters, users and contexts`);
  }
  return content as Record<string, unknown>;
}

function entriesOf<T extends object>(content: Record<string, unknown>, list: string, field: string): [string, T][] {
  const items = content[list];
  if (!Array.isArray(items)) return [];
  return items.flatMap((item: unknown): [string, T][] => {
    if (typeof item !== 'object' || item === null || !('name' in item)) return [];
    const value = (item as Record<string, unknown>)[field];
    return typeof item.name === 'string' && typeof value === 'object' && value !== null
      ? [[item.name, value as T]]
      : [];
  });
}

function resolvePaths<T extends object>(entry: T, folder: string, fields: readonly (keyof T & string)[]): T {
  const resolved = { ...entry } as Record<string, unknown>;
  for (const field of fields) {
    const value = resolved[field];
    if (typeof value === 'string' && value !== '') resolved[field] = path.resolve(folder, value);
  }
  return resolved as T;
}
