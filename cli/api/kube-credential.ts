/** What `xos kube-credential` answers, for kubectl and for this program itself. */
import { parseArgs } from 'node:util';
import { systemClock } from '#common/clock.ts';
import { InvalidInputError } from '#common/errors.ts';
import type { Surroundings } from '../frame/context.ts';
import type { ExecCredential } from './credentials.ts';
import { isFresh, kubernetesCredential } from './session.ts';
import { SessionStore } from './sessions.ts';

/**
 * The credential that the arguments of a kubeconfig entry name, from the stored session while it is fresh.
 * @param args - `--site S --vo V`.
 */
export async function ownCredential(
  args: readonly string[],
  surroundings: Surroundings,
  userAgent: string,
): Promise<ExecCredential> {
  const { values } = parseArgs({ args: [...args], options: { site: { type: 'string' }, vo: { type: 'string' } } });
  const { site, vo } = values;
  if (site === undefined || vo === undefined) {
    throw new InvalidInputError('kube-credential', 'needs --site and --vo: write the context anew with xos login');
  }
  return memberCredential(site, vo, surroundings, userAgent);
}

/** The token of a member for the API server of a site. */
export async function memberCredential(
  site: string,
  vo: string,
  surroundings: Surroundings,
  userAgent: string,
): Promise<ExecCredential> {
  const store = new SessionStore(surroundings);
  const now = (): number => systemClock.now();
  const cached = (await store.find(site))?.kubernetes[vo];
  if (cached !== undefined && isFresh(cached.expiresAt, now())) return credentialOf(cached);
  const { gatewayAt } = await import('./gateway.ts');
  const ports = {
    store,
    now,
    connect: (address: Parameters<typeof gatewayAt>[0]) => gatewayAt(address, userAgent, systemClock),
  };
  return credentialOf(await kubernetesCredential(site, vo, ports));
}

function credentialOf({ token, expiresAt }: { readonly token: string; readonly expiresAt: string }): ExecCredential {
  return { token, expirationTimestamp: expiresAt };
}
