import type { Clock } from '#common/clock.ts';
import { TerminalError } from '#common/errors.ts';
import type { VOMembership } from '#crds/vo-membership.ts';
import { serviceAccounts } from '#runtime/builtin.ts';
import type { Client } from '#runtime/contracts.ts';
import { ForbiddenError } from '#runtime/errors.ts';
import { objectPath } from '#runtime/kind.ts';
import type { ObjectKey, Stored } from '#runtime/types.ts';
import { Refusal } from './refusal.ts';

/** Makes the account of a member, if it isn't there, and keeps it until then at least. */
export type AccountRequest = (
  membership: Stored<VOMembership>,
  untilMs: number,
  signal: AbortSignal,
) => Promise<unknown>;

/** A token for the API server. */
export interface IssuedToken {
  readonly token: string;
  /** RFC 3339. */
  readonly expirationTimestamp: string;
}

/** How long a right that was just written may be refused still. */
const rightsDelayMaxMs = 5_000;
const rightsPollMs = 100;

/** Tokens of members for the API server of this site (ADR 0094). */
export class MemberTokens {
  private readonly client: Client;
  private readonly clock: Clock;
  private readonly requestAccount: AccountRequest;

  /** @param client - not fenced. */
  constructor(client: Client, clock: Clock, requestAccount: AccountRequest) {
    this.client = client;
    this.clock = clock;
    this.requestAccount = requestAccount;
  }

  /**
   * A token of the member's account, which is made where it is missing.
   * @param lifetimeSeconds - at least ten minutes, and at most an hour, which the API server keeps to.
   * @throws {Refusal} while there is no account.
   */
  async issue(membership: Stored<VOMembership>, lifetimeSeconds: number, signal: AbortSignal): Promise<IssuedToken> {
    const untilMs = this.clock.now() + lifetimeSeconds * 1000;
    await this.requestAccount(membership, untilMs, signal).catch((error: unknown) => {
      if (!(error instanceof TerminalError)) throw error;
      throw new Refusal('Unavailable', 'The account is not ready: try again in a moment.', {
        reason: 'AccountMissing',
        retryAfterSeconds: 2,
        cause: error,
      });
    });
    const { namespace } = membership.metadata;
    return this.request({ namespace, name: membership.status?.userName ?? '' }, lifetimeSeconds, signal);
  }

  /**
   * The right to issue a token is written together with the account, and a server authorizes by what it has read so far: it may refuse for a
   * moment.
   */
  private async request(account: ObjectKey, expirationSeconds: number, signal: AbortSignal): Promise<IssuedToken> {
    const body = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: { expirationSeconds } };
    const deadline = this.clock.monotonic() + rightsDelayMaxMs;
    for (;;) {
      try {
        const path = objectPath(serviceAccounts, account, 'token');
        const { status } = (await this.client.raw('POST', path, body, { signal })) as { status: IssuedToken };
        return status;
      } catch (error) {
        if (!(error instanceof ForbiddenError) || this.clock.monotonic() >= deadline) throw error;
        await this.clock.sleep(rightsPollMs, signal);
      }
    }
  }
}
