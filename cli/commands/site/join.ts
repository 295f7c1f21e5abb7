import { apiVersionOf } from '#crds/kind.ts';
import { type Site, siteDefinition } from '#crds/site.ts';
import { InvalidInputError } from '#common/errors.ts';
import type { ClusterInput } from '../../api/cluster.ts';
import { plainFingerprint } from '../../api/gateway.ts';
import { readInput } from '../../api/input.ts';
import { confirm } from '../../api/question.ts';
import { fingerprintOf, type Sites, withSites } from '../../api/sites.ts';
import { conditionOf, explain, waitUntil } from '../../api/waiting.ts';
import type { Context } from '../../frame/context.ts';
import { CommandError } from '../../frame/exit.ts';
import { readInvitation } from './invitation.ts';

interface JoinInput extends ClusterInput {
  readonly file: string;
  readonly fingerprint: string | undefined;
  readonly yes: boolean;
  readonly wait: boolean;
  readonly timeout: number;
}

/** `xos site join`. */
export async function join(context: Context, input: JoinInput): Promise<void> {
  const text = await readInput(input.file, 'FILE');
  return withSites(context, input, async (api) => joinSite(context, input, text, api));
}

/** Makes the Site of the inviting site here, and has it make one of ours. */
export async function joinSite(
  context: Context,
  input: Omit<JoinInput, 'file'>,
  text: string,
  api: Omit<Sites, 'secrets'>,
): Promise<void> {
  const { terminal, signal, clock } = context;
  const invitation = readInvitation(text);
  const { site: name, address, trustDomain, caBundle } = invitation;
  const own = await api.own();
  if (own.site !== invitation.peer)
    throw new CommandError(
      'failure',
      `The invitation is for a site called ${invitation.peer}; this one is ${own.site}`,
      'Ask for one in this name.',
    );
  if (clock.now() > Date.parse(invitation.expiresAt))
    throw new CommandError('failure', `The invitation was good until ${invitation.expiresAt}`, 'Ask for another.');
  await check(context, input, name, fingerprintOf(caBundle));
  const peer = { address, trustDomain, trustBundle: caBundle };
  const spec = siteDefinition.spec.safeParse({ type: 'Peer', peer });
  if (!spec.success) {
    const [issue] = spec.error.issues;
    throw new InvalidInputError(
      'FILE',
      `${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}; ask for another invitation`,
    );
  }
  const object: Site = {
    apiVersion: apiVersionOf(siteDefinition), kind: siteDefinition.kind, metadata: { name }, spec: spec.data,
  }; // prettier-ignore
  const created = await api.sites.create(object, { signal });
  try {
    const { site, address: ownAddress, trustDomain: ownDomain, caBundle: ownBundle } = own;
    const request = { site, address: ownAddress, trustDomain: ownDomain, caBundle: ownBundle };
    await api.redeem({ address, caBundle }, { invitation: invitation.invitation, ...request });
  } catch (error) {
    // Half a peer helps nobody. Only ours is taken away.
    const { uid } = created.metadata;
    await api.sites.delete({ name }, { preconditions: { uid } });
    throw error;
  }
  if (input.wait) await waitForPeer(context, api, name, input.timeout);
  terminal.print(`Site ${name} is a peer`);
  terminal.hint(`Its owner should see the fingerprint ${fingerprintOf(own.caBundle)} of this site`);
}

async function check(
  context: Context,
  { fingerprint, yes }: Pick<JoinInput, 'fingerprint' | 'yes'>,
  name: string,
  found: string,
): Promise<void> {
  if (fingerprint !== undefined) {
    if (plainFingerprint(fingerprint) === plainFingerprint(found)) return;
    throw new CommandError(
      'credentials',
      `The roots of ${name} have the fingerprint ${found}, not the one given`,
      'Ask its owner; do not copy it from this message.',
    );
  }
  if (yes || (await confirm(context, `The roots of ${name} have the fingerprint ${found}. Is it theirs?`, '--yes')))
    return;
  throw new CommandError('failure', 'Nothing was changed');
}

async function waitForPeer(
  context: Context,
  { sites }: Pick<Sites, 'sites'>,
  name: string,
  timeoutMs: number,
): Promise<void> {
  await waitUntil(context, sites, { name }, {
    what: `${name} to answer`,
    timeoutMs,
    isDone: (site) => conditionOf(site, 'Ready')?.status === 'True',
    why: (site) => (site === undefined ? 'it is gone' : explain(site, 'Ready')),
  }); // prettier-ignore
}
