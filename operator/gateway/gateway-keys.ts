import { hkdfSync, randomBytes } from 'node:crypto';
import { type Secret, secrets } from '#runtime/builtin.ts';
import type { Client, Informer } from '#runtime/contracts.ts';
import { AlreadyExistsError } from '#runtime/errors.ts';
import { Sealer, sealKeyBytes } from './sealing.ts';
import { gatewayLabel } from './sealed-records.ts';

const secretName = 'xtreemos-gateway-key';

/**
 * The secret that all replicas of a gateway share, made by the first that needs it. Deleting the Secret ends every session.
 */
export class GatewayKeys {
  private readonly client: Client;
  private readonly informer: Informer<Secret>;
  private readonly namespace: string;
  private current: { readonly text: string; readonly sealer: Sealer; readonly refreshKey: Buffer } | undefined;

  /** @param client - not fenced: any replica may be first. */
  constructor(client: Client, informer: Informer<Secret>, namespace: string) {
    this.client = client;
    this.informer = informer;
    this.namespace = namespace;
  }

  /** Seals what the gateway gives away. */
  async sealer(): Promise<Sealer> {
    return (await this.load()).sealer;
  }

  /** Makes refresh tokens. */
  async refreshKey(): Promise<Buffer> {
    return (await this.load()).refreshKey;
  }

  private async load(): Promise<NonNullable<typeof this.current>> {
    const key = { namespace: this.namespace, name: secretName };
    const secret = this.informer.get(key) ?? (await this.client.of(secrets).find(key)) ?? (await this.create());
    const text = secret.data?.key ?? '';
    if (this.current?.text !== text) {
      const bytes = Buffer.from(text, 'base64');
      const refreshKey = Buffer.from(hkdfSync('sha256', bytes, '', 'xtreemos gateway refresh', 32));
      this.current = { text, sealer: new Sealer(bytes), refreshKey };
    }
    return this.current;
  }

  private async create(): Promise<Secret> {
    const metadata = { namespace: this.namespace, name: secretName, labels: { [gatewayLabel]: 'key' } };
    const data = { key: randomBytes(sealKeyBytes).toString('base64') };
    try {
      return await this.client.of(secrets).create({ metadata, data });
    } catch (error) {
      if (!(error instanceof AlreadyExistsError)) throw error;
      return this.client.of(secrets).get(metadata);
    }
  }
}
