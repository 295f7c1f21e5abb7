import { createHash, timingSafeEqual } from 'node:crypto';
import type { z } from 'zod';
import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import { invitationLabel, type peerRequest } from '#common/identity/gateway-api.ts';
import { apiVersionOf } from '#crds/kind.ts';
import { siteDefinition, sites } from '#crds/site.ts';
import { type Secret, secrets } from '#runtime/builtin.ts';
import type { Client } from '#runtime/contracts.ts';
import { AlreadyExistsError, ConflictError, NotFoundError } from '#runtime/errors.ts';
import type { Stored } from '#runtime/types.ts';
import { certificatesIn } from './login/client-certificate.ts';
import { trustDomainProblem } from './peers/directory.ts';
import { Refusal } from './refusal.ts';

type PeerRequest = z.infer<typeof peerRequest>;

/** What redeeming takes. */
export interface InvitationParts {
  /** Not fenced: any replica may take an invitation. */
  readonly client: Client;
  readonly clock: Clock;
  readonly localSite: string;
  readonly trustDomain: string;
  readonly namespace: string;
}

/**
 * Takes invitations that the owner of this site gave out (`xos site invite`): each lets one site of one name become a peer, once. Only the digest of the
 * secret is kept.
 */
export class Invitations {
  private readonly parts: InvitationParts;

  constructor(parts: InvitationParts) {
    this.parts = parts;
  }

  /** Makes the one who shows an invitation a peer. @throws {Refusal} */
  async redeem(request: PeerRequest, signal: AbortSignal): Promise<void> {
    const invitation = await this.find(request, signal);
    const spec = { type: 'Peer', peer: peerOf(request) };
    const parsed = siteDefinition.spec.safeParse(spec);
    if (!parsed.success)
      throw new Refusal('InvalidRequest', `This is no peer: ${describeError(parsed.error).slice(0, 300)}`);
    if (request.site === this.parts.localSite)
      throw new Refusal('Conflict', `This site is called ${request.site} itself: give yours another name.`);
    const problem = trustDomainProblem(
      (await this.parts.client.of(sites).list({ signal })).items,
      request,
      this.parts.trustDomain,
    );
    if (problem !== undefined) throw new Refusal('Conflict', problem);
    if (certificatesIn(request.caBundle).length === 0)
      throw new Refusal('InvalidRequest', 'caBundle holds no certificate in PEM.');
    // Used up before anything is made of it: of two who show it at once, one gets through.
    await this.useUp(invitation, signal);
    const metadata = { name: request.site };
    const object = { apiVersion: apiVersionOf(siteDefinition), kind: siteDefinition.kind, metadata, spec: parsed.data };
    try {
      await this.parts.client.of(sites).create(object, { signal });
    } catch (error) {
      if (!(error instanceof AlreadyExistsError)) throw error;
      throw new Refusal(
        'Conflict',
        `There is a Site ${request.site} already: ask the owner to delete it, and for another invitation.`,
      );
    }
  }

  private async find({ invitation, site }: PeerRequest, signal: AbortSignal): Promise<Stored<Secret>> {
    const { client, namespace, clock } = this.parts;
    const [id = '', secret = ''] = invitation.split('.');
    const found = await client.of(secrets).find({ namespace, name: `site-invitation-${id}` }, { signal });
    const decode = (name: string): string => Buffer.from(found?.data?.[name] ?? '', 'base64').toString();
    const digest = createHash('sha256').update(secret).digest();
    const expected = Buffer.from(decode('digest'), 'hex');
    const isGood =
      found?.metadata.labels?.[invitationLabel] === 'invitation' &&
      expected.length === digest.length && timingSafeEqual(expected, digest) &&
      clock.now() < Date.parse(decode('expires')) &&
      decode('site') === site; // prettier-ignore
    if (isGood) return found;
    // Which of these it is would help who guesses.
    throw new Refusal(
      'Forbidden',
      'The invitation is not good: it was used, is over, or is for a site of another name. Ask the owner for a new one.',
      {
        reason: 'InvitationInvalid',
      },
    );
  }

  private async useUp({ metadata }: Stored<Secret>, signal: AbortSignal): Promise<void> {
    const { name, namespace, uid } = metadata;
    try {
      await this.parts.client.of(secrets).delete({ name, namespace }, { signal, preconditions: { uid } });
    } catch (error) {
      if (!(error instanceof NotFoundError || error instanceof ConflictError)) throw error;
      throw new Refusal('Forbidden', 'The invitation was used a moment ago.', { reason: 'InvitationInvalid' });
    }
  }
}

function peerOf({ address, trustDomain, caBundle }: PeerRequest): object {
  return { address, trustDomain, trustBundle: caBundle };
}
