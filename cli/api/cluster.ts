import type { Client } from '#runtime/contracts.ts';
import type { CredentialSource } from '#runtime/credentials.ts';
import type { Context } from '../frame/context.ts';

/** Options that choose a cluster and an identity. */
export interface ClusterInput {
  readonly context: string | undefined;
  readonly kubeconfig: string | undefined;
}

/** A cluster, reached as the caller. */
export interface Cluster {
  readonly client: Client;
  /** For what is no request and answer, as a command in a container. */
  readonly credentials: CredentialSource;
  /** Namespace of the context. */
  readonly namespace: string;
  readonly contextName: string;
  /** URL of the API server. */
  readonly server: string;
}

/** ConfigMap in which every cluster with a gateway says so, and how its site is called. */
export const published = { namespace: 'kube-public', name: 'xtreemos-gateway' };

/** Owner of the fields that this program sets. */
const fieldManager = 'xos';

/** Runs `use` with a connection to the chosen cluster, and closes it. Code for it is loaded only now. */
export async function withCluster<T>(
  context: Context,
  input: ClusterInput,
  use: (cluster: Cluster) => Promise<T>,
): Promise<T> {
  const [{ readKubeconfig }, { chooseContext, contextCredentials }, { execRunner }] = await Promise.all([
    import('./kubeconfig.ts'),
    import('./credentials.ts'),
    import('./exec.ts'),
  ]);
  const config = await readKubeconfig(input.kubeconfig, context.surroundings);
  const chosen = chooseContext(config, input.context);
  const [{ HttpTransport }, { createClient }] = await Promise.all([
    import('#runtime/transport.ts'),
    import('#runtime/client.ts'),
  ]);
  const credentials = contextCredentials(chosen, execRunner(context.surroundings, context.program));
  const transport = new HttpTransport({
    credentials,
    userAgent: `xos/${context.version}`,
  });
  try {
    const client = createClient(transport, { fieldManager });
    const { name: contextName, namespace, cluster } = chosen;
    return await use({ client, credentials, namespace, contextName, server: cluster.server });
  } finally {
    await transport.close();
  }
}
