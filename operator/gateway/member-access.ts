import type { Clock } from '#common/clock.ts';
import type { Principal } from '#common/identity/ids.ts';
import type { Informer } from '#runtime/contracts.ts';
import { type CredentialSource, withBearer } from '#runtime/credentials.ts';
import type { KubeObject } from '#runtime/types.ts';
import type { MemberTokens } from './member-tokens.ts';
import type { Member, Members } from './members.ts';
import { Refusal } from './refusal.ts';

/** What a member may do here at the moment, and credentials to do it with as nobody else. */
export interface MemberAccess {
  /** What the member may not be connected to tasks for; undefined when they may. */
  refusal(virtualOrganization: string, principal: Principal): Refusal | undefined;
  /** Credentials for the API server of this site, good for some minutes. @throws {Refusal} for who may not act. */
  credentials(virtualOrganization: string, principal: Principal, signal: AbortSignal): Promise<CredentialSource>;
  /** Called after anything changed that {@link refusal} follows from. @returns a function that ends it. */
  onChange(listener: () => void): () => void;
}

/** The shortest that the API server issues, seconds. */
const lifetimeSeconds = 600;

/** What {@link GatewayMemberAccess} works with. */
export interface MemberAccessParts {
  readonly members: Members;
  readonly tokens: MemberTokens;
  /** How this process reaches the API server. */
  readonly credentials: CredentialSource;
  /** What standing follows from: memberships, virtual organizations, sites. */
  readonly caches: readonly Pick<Informer<KubeObject>, 'onEvent'>[];
  readonly clock: Clock;
}

/** {@link MemberAccess} by the memberships of this site. */
export class GatewayMemberAccess implements MemberAccess {
  private readonly parts: MemberAccessParts;

  constructor(parts: MemberAccessParts) {
    this.parts = parts;
  }

  refusal(virtualOrganization: string, principal: Principal): Refusal | undefined {
    const found = this.find(virtualOrganization, principal);
    return found instanceof Refusal ? found : undefined;
  }

  async credentials(virtualOrganization: string, principal: Principal, signal: AbortSignal): Promise<CredentialSource> {
    const member = this.find(virtualOrganization, principal);
    if (member instanceof Refusal) throw member;
    const { token } = await this.parts.tokens.issue(member.membership, lifetimeSeconds, signal);
    return withBearer(this.parts.credentials, token);
  }

  onChange(listener: () => void): () => void {
    const ends = this.parts.caches.map((cache) => cache.onEvent(listener));
    return () => {
      for (const end of ends) end();
    };
  }

  private find(virtualOrganization: string, principal: Principal): Member | Refusal {
    const { members, clock } = this.parts;
    const member = members.find(principal, virtualOrganization);
    if (member === undefined)
      return new Refusal('Forbidden', `There is no such member of ${virtualOrganization} at this site.`, {
        policy: 'vo/membership',
        reason: 'NotAMember',
      });
    const action = { name: 'tasks.connect', nowMs: clock.now() };
    const { allowed, message, policy, reason } = members.decide(member, action);
    return allowed ? member : new Refusal('Forbidden', message, { policy, reason });
  }
}
