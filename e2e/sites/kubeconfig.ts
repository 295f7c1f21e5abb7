import { readFileSync } from 'node:fs';

import { parse, stringify } from 'yaml';

import type { Credentials } from './kube-client.ts';
import type { KeyPair } from './pki.ts';

/** One login in a kubeconfig file. */
export interface KubeconfigUser extends KeyPair {
  readonly name: string;
}

/** One cluster and those who may log in to it. */
export interface KubeconfigCluster {
  readonly name: string;
  readonly server: string;
  readonly authority: string;
  readonly users: readonly KubeconfigUser[];
}

const base64 = (text: string): string => Buffer.from(text).toString('base64');

/**
 * Renders a kubeconfig with a context `USER@CLUSTER` for each login, and one named like the cluster for its first
 * user. The current context is the first cluster's.
 */
export function renderKubeconfig(clusters: readonly KubeconfigCluster[]): string {
  const pairs = clusters.flatMap((cluster) => cluster.users.map((user) => ({ cluster, user })));
  const context = (name: string, cluster: KubeconfigCluster, user: KubeconfigUser): unknown => ({
    name,
    context: { cluster: cluster.name, user: `${user.name}@${cluster.name}` },
  });
  return stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: clusters.map(({ name, server, authority }) => ({
      name,
      cluster: { server, 'certificate-authority-data': base64(authority) },
    })),
    users: pairs.map(({ cluster, user }) => ({
      name: `${user.name}@${cluster.name}`,
      user: { 'client-certificate-data': base64(user.certificate), 'client-key-data': base64(user.key) },
    })),
    contexts: [
      ...clusters.flatMap((cluster) => cluster.users.slice(0, 1).map((user) => context(cluster.name, cluster, user))),
      ...pairs.map(({ cluster, user }) => context(`${user.name}@${cluster.name}`, cluster, user)),
    ],
    'current-context': clusters[0]?.name ?? '',
  });
}

interface KubeconfigFile {
  readonly clusters: readonly { cluster: { server: string; 'certificate-authority-data': string } }[];
  readonly users: readonly { name: string; user: { 'client-certificate-data': string; 'client-key-data': string } }[];
}

/** The first cluster of a kubeconfig that `renderKubeconfig` wrote, with the login of a user, `USER@CLUSTER`; the first unless one is named. */
export function readCredentials(path: string, userName?: string): Credentials {
  const file = parse(readFileSync(path, 'utf8')) as KubeconfigFile;
  const cluster = file.clusters[0]?.cluster;
  const user = file.users.find(({ name }) => userName === undefined || name === userName)?.user;
  if (cluster === undefined || user === undefined) throw new Error(`${path}: holds no cluster or no user`);
  const text = (encoded: string): string => Buffer.from(encoded, 'base64').toString('utf8');
  return {
    server: cluster.server,
    authority: text(cluster['certificate-authority-data']),
    certificate: text(user['client-certificate-data']),
    key: text(user['client-key-data']),
  };
}
