/** Sites as commands need them: a narrow port, so that tests bring their own. */
import { X509Certificate } from 'node:crypto';
import { z } from 'zod';
import { peerAnswer, type peerRequest } from '#common/identity/gateway-api.ts';
import type { Site } from '#crds/site.ts';
import type { Secret } from '#runtime/builtin.ts';
import type { ObjectClient } from '#runtime/contracts.ts';
import type { Context } from '../frame/context.ts';
import { CommandError } from '../frame/exit.ts';
import { type ClusterInput, published, withCluster } from './cluster.ts';
import { type GatewayAddress, gatewayAt, parseAnswer } from './gateway.ts';
import type { Objects } from './organizations.ts';

const publishedData = z.object({
  site: z.string(),
  namespace: z.string(),
  address: z.string(),
  trustDomain: z.string(),
  caBundle: z.string(),
});

/** What a cluster says of its own site. */
export type OwnSite = z.infer<typeof publishedData>;

/** The caller's view of the sites of a cluster. */
export interface Sites {
  readonly sites: Objects<Site>;
  readonly secrets: Pick<ObjectClient<Secret>, 'create'>;
  /** @throws {CommandError} when the cluster has no gateway. */
  readonly own: () => Promise<OwnSite>;
  /** Asks the gateway of another site to take this one as a peer. @throws {CommandError} */
  redeem(gateway: GatewayAddress, request: z.infer<typeof peerRequest>): Promise<void>;
}

/** Runs `use` with the chosen cluster. */
export async function withSites<T>(context: Context, input: ClusterInput, use: (api: Sites) => Promise<T>): Promise<T> {
  const [{ sites }, { configMaps, secrets }] = await Promise.all([
    import('#crds/site.ts'),
    import('#runtime/builtin.ts'),
  ]);
  return withCluster(context, input, async ({ client, contextName }) =>
    use({
      sites: client.of(sites),
      secrets: client.of(secrets),
      own: async () => {
        const found = await client.of(configMaps).find(published, { signal: context.signal });
        const data = publishedData.safeParse(found?.data);
        if (data.success) return data.data;
        throw new CommandError(
          'notFound',
          `The cluster of context ${contextName} does not say how its gateway is reached: ConfigMap ${published.name} in ${published.namespace} is missing or of an older version`,
          'Is XtreemOS installed there, with cert-manager? Choose another context with --context.',
        );
      },
      redeem: async (gateway, request) => {
        const answer = await gatewayAt(gateway, `xos/${context.version}`, context.clock, context.signal).send(
          'POST', '/v1/peers', request, {},
        ); // prettier-ignore
        parseAnswer(peerAnswer, answer);
      },
    }),
  );
}

/** SHA-256 of the first certificate of a bundle, as owners read it to each other. @throws {CommandError} when it can't be read. */
export function fingerprintOf(caBundle: string): string {
  try {
    return new X509Certificate(caBundle).fingerprint256;
  } catch (error) {
    throw new CommandError('usage', 'The trust bundle holds no certificate', 'Ask for another invitation.', {
      cause: error,
    });
  }
}
