import type { z } from 'zod';
import type { Clock } from '#common/clock.ts';
import type { joinAnswer, joinRequest } from '#common/identity/gateway-api.ts';
import { handleMax, type Principal } from '#common/identity/ids.ts';
import { signJws } from '#common/identity/jws.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import { type VOMembership, voMemberships } from '#crds/vo-membership.ts';
import type { TokenMinter } from '#operator/identity/minter.ts';
import { useDigest } from '#operator/identity/standing.ts';
import type { Client } from '#runtime/contracts.ts';
import { AlreadyExistsError } from '#runtime/errors.ts';
import type { Stored } from '#runtime/types.ts';
import { type Member, type Members, requestName } from './members.ts';
import { Refusal } from './refusal.ts';

/** `typ` of the acceptance of a use. */
const acceptanceType = 'vo-acceptance+jwt';
const fieldManager = 'xtreemos-gateway';

type JoinRequest = z.infer<typeof joinRequest>;
type JoinAnswer = z.infer<typeof joinAnswer>;

/** What enrolment needs. */
export interface EnrolmentParts {
  /** Not fenced: any replica takes requests. */
  readonly client: Client;
  readonly members: Members;
  readonly minter: TokenMinter;
  readonly clock: Clock;
  readonly localSite: string;
}

/** Lets people ask to join virtual organizations and accept their use, each only for themselves. */
export class Enrolment {
  private readonly parts: EnrolmentParts;

  constructor(parts: EnrolmentParts) {
    this.parts = parts;
  }

  /**
   * Asks to join, or, for somebody who did already, records what they accept.
   * @throws {Refusal} when nobody can ask, or another text is in force than the one accepted.
   */
  async ask(
    principal: Principal,
    organization: string,
    request: JoinRequest,
    signal: AbortSignal,
  ): Promise<{ readonly isNew: boolean; readonly answer: JoinAnswer }> {
    const { members } = this.parts;
    const vo = members.organization(organization);
    // Whether there is one that the site doesn't accept is nobody's business.
    if (vo === undefined || !members.isAccepted(organization)) {
      throw new Refusal('NotFound', `There is no virtual organization ${organization} at this site.`, {
        policy: 'site/acceptedVirtualOrganizations',
      });
    }
    if (vo.spec.state === 'Dissolved') {
      throw new Refusal('Forbidden', `${organization} is dissolved.`, { policy: 'vo/state' });
    }
    const use = useOf(vo);
    if (request.acceptedUse !== undefined && request.acceptedUse !== use?.digest) {
      throw new Refusal(
        'AcceptableUseRequired',
        'Another text is in force than the one you accept: ask without acceptedUse to read it.',
        { policy: 'vo/enrolment' },
      );
    }
    const known = members.find(principal, organization);
    const membership = known?.membership ?? (await this.request(principal, vo, request, signal));
    const accepted = request.acceptedUse ?? membership.spec.acceptedUse;
    if (request.acceptedUse !== undefined && membership.spec.acceptedUse !== request.acceptedUse) {
      await this.accept({ membership, vo }, request.acceptedUse, signal);
    }
    const isMissing = use !== undefined && accepted !== use.digest;
    const state = membership.status?.state ?? membership.spec.state;
    return {
      isNew: known === undefined,
      answer: {
        virtualOrganization: organization,
        membership: membership.metadata.name,
        state,
        message: messageOf(vo, membership, isMissing),
        ...(isMissing ? { acceptableUse: use } : {}),
      },
    };
  }

  private async request(
    principal: Principal,
    vo: Stored<VirtualOrganization>,
    request: JoinRequest,
    signal: AbortSignal,
  ): Promise<Stored<VOMembership>> {
    const { mode } = vo.spec.enrolment;
    const { name } = vo.metadata;
    if (mode === 'Closed') {
      throw new Refusal(
        'Forbidden',
        `Nobody can ask to join ${name}: its administrators make memberships. Give them your issuer and subject (xos whoami).`,
        {
          policy: 'vo/enrolment',
        },
      );
    }
    const handle = request.handle ?? handleOf(principal);
    const metadata = { name: requestName(principal), namespace: `vo-${name}` };
    const client = this.parts.client.of(voMemberships);
    const spec = { principal, handle, state: 'Requested' as const, groups: [], roles: ['member'], capabilities: [] };
    try {
      return await client.create({ metadata, spec }, { signal, fieldManager });
    } catch (error) {
      if (!(error instanceof AlreadyExistsError)) throw error;
      return client.get(metadata, { signal });
    }
  }

  /** Records the acceptance in the name of the member, with our signature that they gave it to us. */
  private async accept({ membership, vo }: Member, acceptedUse: string, signal: AbortSignal): Promise<void> {
    const { client, minter, clock, localSite } = this.parts;
    const { name, namespace, uid } = membership.metadata;
    const objects = client.of(voMemberships);
    await objects.patch(
      { name, namespace },
      { type: 'merge', body: { metadata: { uid }, spec: { acceptedUse } } },
      { signal, fieldManager },
    );
    const acceptance = await signJws(await minter.signingKey(vo), acceptanceType, {
      genesis: vo.status?.genesis,
      principal: membership.spec.principal,
      acceptedUse,
      site: localSite,
      iat: Math.floor(clock.now() / 1000),
    });
    await objects.status.apply(
      { metadata: { name, namespace, uid }, status: { acceptance } },
      { signal, fieldManager },
    );
  }
}

function useOf({ spec }: VirtualOrganization): { text: string; digest: string } | undefined {
  const text = spec.enrolment.acceptableUse?.text;
  if (text === undefined) return undefined;
  return { text, digest: useDigest(text) };
}

/** A word that reminds of the subject, where that has letters. */
function handleOf({ subject }: Principal): string {
  const [first = ''] = subject.replace(/^(.*,)?CN=/i, '').split('@');
  const word = first
    .toLowerCase()
    .replaceAll(/[^a-z0-9]/g, '')
    .slice(0, handleMax);
  return /[a-z]/.test(word) ? word : 'member';
}

function messageOf({ metadata, spec }: VirtualOrganization, membership: VOMembership, isMissing: boolean): string {
  if (isMissing) return `Read the acceptable use of ${metadata.name} and accept it by asking again with its digest.`;
  const state = membership.status?.state ?? membership.spec.state;
  if (state === 'Active') return `You are a member of ${metadata.name}.`;
  if (state !== 'Requested') return `Your membership of ${metadata.name} is ${state}: ask its administrators.`;
  return spec.enrolment.mode === 'Open'
    ? `You will be a member of ${metadata.name} in a moment.`
    : `The administrators of ${metadata.name} have to approve: look again with xos whoami.`;
}
