import { readFile } from 'node:fs/promises';
import type { z } from 'zod';
import { describeError, InvalidInputError } from '#common/errors.ts';
import { siteAnswer } from '#common/identity/gateway-api.ts';
import { configMaps } from '#runtime/builtin.ts';
import { type ClusterInput, published, withCluster } from '../../api/cluster.ts';
import { certificateByFingerprint, type GatewayAddress, gatewayAt, parseAnswer } from '../../api/gateway.ts';
import type { Context } from '../../frame/context.ts';
import { CommandError } from '../../frame/exit.ts';

/** Options that say where the gateway is. */
export interface FindInput extends ClusterInput {
  readonly gateway: string | undefined;
  readonly ca: string | undefined;
  readonly caFingerprint: string | undefined;
}

/** A gateway, and what it says of its site. */
export interface FoundGateway extends GatewayAddress {
  readonly site: z.infer<typeof siteAnswer>;
}

/** The gateway that the options name, or that the cluster of the context publishes. */
export async function findGateway(context: Context, input: FindInput): Promise<FoundGateway> {
  const { address, caBundle } = input.gateway === undefined ? await fromCluster(context, input) : await named(input);
  const gateway = gatewayAt({ address, caBundle }, `xos/${context.version}`, context.clock, context.signal);
  const site = parseAnswer(siteAnswer, await gateway.send('GET', '/v1/site', undefined, {}));
  return { address, caBundle, site };
}

async function named({ gateway, ca, caFingerprint }: FindInput): Promise<GatewayAddress> {
  const address = gateway ?? '';
  if (!/^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}$/.test(address)) {
    throw new InvalidInputError(
      '--gateway',
      `${JSON.stringify(address)} is no HOST:PORT, for example gateway.example.org:7443`,
    );
  }
  if (ca !== undefined) {
    try {
      return { address, caBundle: await readFile(ca, 'utf8') };
    } catch (error) {
      throw new InvalidInputError('--ca', `${ca} can't be read (${describeError(error)})`);
    }
  }
  if (caFingerprint === undefined) {
    throw new InvalidInputError('--gateway', 'needs --ca or --ca-fingerprint: ask the owner of the site for either');
  }
  if (!/^(sha256:)?([0-9a-f]{2}:?){31}[0-9a-f]{2}$/i.test(caFingerprint)) {
    throw new InvalidInputError(
      '--ca-fingerprint',
      `${JSON.stringify(caFingerprint)} is no SHA-256: give 64 hexadecimal digits`,
    );
  }
  return { address, caBundle: await certificateByFingerprint(address, caFingerprint) };
}

async function fromCluster(context: Context, input: FindInput): Promise<GatewayAddress> {
  return withCluster(context, input, async ({ client, contextName }) => {
    const found = await client.of(configMaps).find(published, { signal: context.signal });
    const { address, caBundle } = found?.data ?? {};
    if (address !== undefined && caBundle !== undefined) return { address, caBundle };
    throw new CommandError(
      'notFound',
      `The cluster of context ${contextName} has no gateway: ConfigMap ${published.name} in ${published.namespace} is missing`,
      'Is XtreemOS installed there? Choose another context with --context, or name a gateway with --gateway.',
    );
  });
}
