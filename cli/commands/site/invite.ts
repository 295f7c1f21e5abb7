import { createHash, randomBytes } from 'node:crypto';
import { invitationLabel, type InvitationText } from '#common/identity/gateway-api.ts';
import { InvalidInputError } from '#common/errors.ts';
import type { ClusterInput } from '../../api/cluster.ts';
import { fingerprintOf, type Sites, withSites } from '../../api/sites.ts';
import type { Context } from '../../frame/context.ts';
import { CommandError } from '../../frame/exit.ts';
import { invitationPrefix } from './invitation.ts';

interface InviteInput extends ClusterInput {
  readonly site: string;
  readonly expires: number;
}

const lifetimeMaxMs = 7 * 86_400_000;

/** `xos site invite`. */
export async function invite(context: Context, input: InviteInput): Promise<void> {
  return withSites(context, input, async (api) => inviteSite(context, input, api));
}

/** Keeps the digest of a fresh secret in the cluster, and prints the secret with what the other side needs to know. */
export async function inviteSite(
  context: Context,
  { site: peer, expires }: Pick<InviteInput, 'site' | 'expires'>,
  api: Omit<Sites, 'redeem'>,
): Promise<void> {
  const { terminal, clock, signal, program } = context;
  if (!/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(peer))
    throw new InvalidInputError(
      'SITE',
      `${JSON.stringify(peer)} is no name: use lower-case letters, digits and hyphens`,
    );
  if (expires < 60_000 || expires > lifetimeMaxMs) throw new InvalidInputError('--expires', 'must be from 1m to 7d');
  const { namespace, ...own } = await api.own();
  if (peer === own.site)
    throw new InvalidInputError('SITE', `${peer} is this site itself: name the one that is invited`);
  if (/\.svc:\d+$/.test(own.address)) {
    throw new CommandError(
      'failure',
      `Other sites can't reach the gateway: its address, ${own.address}, is that of a Service inside this cluster`,
      'Give the chart gateway.address and a gateway.service.type that others reach.',
    );
  }
  if ((await api.sites.find({ name: peer }, { signal })) !== undefined)
    throw new CommandError(
      'failure',
      `There is a Site ${peer} already`,
      `Forget it first: ${program} site leave ${peer}`,
    );
  const [id, secret] = [randomBytes(8).toString('hex'), randomBytes(32).toString('base64url')];
  const expiresAt = new Date(clock.now() + expires).toISOString();
  const encode = (text: string): string => Buffer.from(text).toString('base64');
  const digest = createHash('sha256').update(secret).digest('hex');
  await api.secrets.create(
    {
      metadata: { name: `site-invitation-${id}`, namespace, labels: { [invitationLabel]: 'invitation' } },
      data: { digest: encode(digest), site: encode(peer), expires: encode(expiresAt) },
    },
    { signal },
  );
  const text: InvitationText = { ...own, peer, invitation: `${id}.${secret}`, expiresAt };
  terminal.print(`${invitationPrefix}${Buffer.from(JSON.stringify(text)).toString('base64url')}`);
  terminal.hint(`Good once, for a site called ${peer}, until ${expiresAt}. Its owner types: ${program} site join FILE`);
  terminal.hint(`The fingerprint that they see must be ${fingerprintOf(own.caBundle)}`);
}
