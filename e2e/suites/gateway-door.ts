/** A way to the gateway of a site for tests: as anybody who can reach its port, with whatever they show. */
import { readFileSync } from 'node:fs';
import type { TestSite } from '#sites/harness.ts';
import { type Credentials, KubeClient, KubeStatusError } from '#sites/kube-client.ts';
import YAML from 'yaml';

/** What a caller shows: a token, a certificate with its key, or nothing. */
export type Shown = { readonly token: string } | { readonly certificate: string; readonly key: string } | undefined;

/** An answer of the gateway. */
export interface Answer {
  readonly status: number;
  readonly body: Record<string, unknown>;
}

/** One gateway. */
export class GatewayDoor {
  private readonly address: string;
  private readonly authority: string;

  private constructor(address: string, authority: string) {
    this.address = address;
    this.authority = authority;
  }

  /** The gateway of a site, as the site publishes it. */
  static async open(site: TestSite): Promise<GatewayDoor> {
    const { data } = await site.get<{ data: Record<string, string> }>('cm', 'xtreemos-gateway', '-n', 'kube-public');
    return new GatewayDoor(data.address ?? '', data.caBundle ?? '');
  }

  /** Asks it once, over a connection of its own. */
  async call(method: string, path: string, shown: Shown, body?: object): Promise<Answer> {
    const credentials = { server: `https://${this.address}`, authority: this.authority, ...shown } as Credentials;
    const client = new KubeClient(credentials);
    try {
      const text = await client.text(method, path, body === undefined ? {} : { body });
      return { status: 200, body: JSON.parse(text) as Record<string, unknown> };
    } catch (error) {
      if (!(error instanceof KubeStatusError)) throw error;
      return { status: error.code, body: {} };
    } finally {
      client.close();
    }
  }
}

/** Certificate and key of a user of a cluster, from the kubeconfig of all sites. */
export function certificateOf(kubeconfig: string, user: string): { certificate: string; key: string } {
  const file = YAML.parse(readFileSync(kubeconfig, 'utf8')) as {
    users: { name: string; user: Record<string, string> }[];
  };
  const found = file.users.find(({ name }) => name === user)?.user;
  if (found === undefined) throw new Error(`${kubeconfig} has no user ${user}`);
  const pem = (name: string): string => Buffer.from(found[name] ?? '', 'base64').toString('utf8');
  return { certificate: pem('client-certificate-data'), key: pem('client-key-data') };
}
