import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { z } from 'zod';
import { organizationsAsked, principalSchema, type SessionAnswer } from '#common/identity/gateway-api.ts';
import type { Principal } from '#common/identity/ids.ts';
import { ConflictError, ignoreNotFound, NotFoundError } from '#runtime/errors.ts';
import { Refusal } from './refusal.ts';
import { type ReadRecord, type RecordParts, SealedRecords } from './sealed-records.ts';

/** Prefixes make tokens easy to tell, and to find by scanners of leaked secrets. */
const prefixes = { session: 'xoss_', refresh: 'xosr_' };

/** A session ends after so long, however often it is refreshed, milliseconds. */
export const sessionMs = 7 * 24 * 3_600_000;
const sessionTokenMs = 10 * 60_000;
/** More sessions of one principal end the oldest. */
const perPrincipalMax = 16;
/** More sessions than this are not begun. */
const sessionsMax = 20_000;

const recordSchema = z.strictObject({
  principal: principalSchema,
  method: z.string(),
  virtualOrganizations: organizationsAsked.optional(),
  beganMs: z.number(),
  endsMs: z.number(),
  /** Which refresh token of the family is good. */
  generation: z.int().min(0),
  /** SHA-256 of the attempt that was answered with it, base64url; absent at first. */
  attempt: z.string().optional(),
  /** Makes refresh tokens of the family, with the key of the gateway. */
  nonce: z.string(),
});
type SessionRecord = z.infer<typeof recordSchema>;

const tokenSchema = z.strictObject({
  id: z.string(),
  endsMs: z.number(),
  principal: principalSchema,
  sessionEndsMs: z.number(),
  virtualOrganizations: organizationsAsked.optional(),
});

/** A session that holds. */
export interface Session {
  readonly id: string;
  readonly principal: Principal;
  readonly endsMs: number;
  /** It is for these alone; undefined: for everything that the principal is a member of. */
  readonly virtualOrganizations: readonly string[] | undefined;
}

/**
 * Sessions of users: one sealed record each, in a Secret of the operator's namespace. Session tokens are checked without a request; refresh tokens are
 * good once (RFC 9700 §4.14.2): using one again ends the whole family, since somebody has stolen it. Answers get lost when a gateway or a client
 * dies: the same attempt is answered again, as long as its answer was not used itself. Whoever stole a token does not know the attempt.
 */
export class Sessions {
  private readonly parts: RecordParts;
  private readonly records: SealedRecords<SessionRecord>;

  constructor(parts: RecordParts) {
    this.parts = parts;
    this.records = new SealedRecords(parts, {
      ...{ use: 'session', prefix: 'session', sealedAs: 'session-record' },
      ...{ tagLabel: 'xtreemos.io/principal', schema: recordSchema },
    });
  }

  /** Begins a session. @throws {Refusal} when there are too many. */
  async begin(
    { principal, virtualOrganizations }: Pick<Session, 'principal' | 'virtualOrganizations'>,
    method: string,
    signal: AbortSignal,
  ): Promise<SessionAnswer> {
    const tag = await this.records.tagOf('principal', principal.issuer, principal.subject);
    await this.makeRoom(tag, signal);
    const id = randomBytes(16).toString('hex');
    const now = this.parts.clock.now();
    const record: SessionRecord = {
      principal,
      method,
      ...(virtualOrganizations === undefined ? {} : { virtualOrganizations: [...virtualOrganizations] }),
      beganMs: now,
      endsMs: now + sessionMs,
      generation: 0,
      nonce: randomBytes(16).toString('base64url'),
    };
    await this.records.create(id, record, tag, signal);
    return this.answer(id, record);
  }

  /** Exchanges a refresh token for the next one. @throws {Refusal} when it isn't good; the family may have ended thereby. */
  async refresh(token: string, attempt: string, signal: AbortSignal): Promise<SessionAnswer> {
    const { id, generation, mac } = parseRefreshToken(token);
    const digest = createHash('sha256').update(attempt).digest('base64url');
    for (let round = 0; round < 3; round++) {
      const found = await this.read(id, signal);
      const record = found.content;
      if (!sameText(mac, await this.macOf(id, record, generation))) throw unknownToken();
      const isLostAnswer = generation === record.generation - 1 && sameText(digest, record.attempt ?? '');
      if (isLostAnswer) return this.answer(id, record);
      if (generation !== record.generation) {
        await this.end(id, signal);
        throw new Refusal(
          'SessionEnded',
          'This refresh token was used before: the session has ended, since somebody else may hold it. Log in again.',
          {
            reason: 'RefreshTokenReused',
          },
        );
      }
      const next: SessionRecord = { ...record, generation: generation + 1, attempt: digest };
      try {
        await this.records.update(found, next, signal);
        return await this.answer(id, next);
      } catch (error) {
        // Somebody uses the same token at this moment: what that means is seen from the record.
        if (error instanceof NotFoundError) throw unknownToken();
        if (!(error instanceof ConflictError)) throw error;
      }
    }
    throw new Refusal('Unavailable', 'The session is being changed by others: try again.', { retryAfterSeconds: 1 });
  }

  /** The session of a token. @throws {Refusal} unless it holds. */
  async check(token: string, signal: AbortSignal): Promise<Session> {
    const sealer = await this.parts.sealer();
    const isOurs = token.startsWith(prefixes.session);
    const opened = tokenSchema.safeParse(
      isOurs ? sealer.open('session-token', token.slice(prefixes.session.length)) : undefined,
    );
    if (!opened.success) throw new Refusal('Unauthenticated', 'This is no session token of this gateway: log in.');
    const { id, endsMs, principal, sessionEndsMs, virtualOrganizations } = opened.data;
    if (endsMs <= this.parts.clock.now())
      throw new Refusal('Unauthenticated', 'The session token is over: refresh the session.', {
        reason: 'SessionTokenExpired',
      });
    // A logout counts at once.
    if (!(await this.records.exists(id, signal))) {
      throw new Refusal('SessionEnded', 'The session has ended: log in again.');
    }
    return { id, principal, endsMs: sessionEndsMs, virtualOrganizations };
  }

  /** Ends a session and every token of it. May be repeated. */
  async end(id: string, signal: AbortSignal): Promise<void> {
    await ignoreNotFound(this.records.remove(id, signal));
  }

  /** Ends sessions whose time is over. For the one leader to call now and then. @returns how many are left. */
  async expire(signal: AbortSignal): Promise<number> {
    return this.records.expire(signal);
  }

  private async makeRoom(tag: string, signal: AbortSignal): Promise<void> {
    if (this.parts.informer.size >= sessionsMax) {
      throw new Refusal('Unavailable', 'There are too many sessions at this gateway: try later.', {
        retryAfterSeconds: 300,
      });
    }
    for (const id of this.records.tagged(tag).slice(perPrincipalMax - 1)) await this.end(id, signal);
  }

  private async read(id: string, signal: AbortSignal): Promise<ReadRecord<SessionRecord>> {
    const found = await this.records.read(id, signal);
    if (found !== undefined) return found;
    await this.end(id, signal);
    throw unknownToken();
  }

  private async answer(id: string, record: SessionRecord): Promise<SessionAnswer> {
    const endsMs = Math.min(this.parts.clock.now() + sessionTokenMs, record.endsMs);
    const { principal, virtualOrganizations } = record;
    const content = { id, endsMs, principal, virtualOrganizations, sessionEndsMs: record.endsMs };
    const sealed = (await this.parts.sealer()).seal('session-token', content);
    const mac = await this.macOf(id, record, record.generation);
    return {
      principal: record.principal,
      sessionToken: `${prefixes.session}${sealed}`,
      sessionTokenExpiresAt: new Date(endsMs).toISOString(),
      refreshToken: `${prefixes.refresh}${id}.${record.generation}.${mac}`,
      expiresAt: new Date(record.endsMs).toISOString(),
    };
  }

  private async macOf(id: string, record: SessionRecord, generation: number): Promise<string> {
    const content = JSON.stringify(['refresh', id, record.nonce, generation]);
    return createHmac('sha256', await this.parts.refreshKey())
      .update(content)
      .digest('base64url');
  }
}

/** @throws {Refusal} unless the session is for this virtual organization too. */
export function checkCovers({ virtualOrganizations }: Session, organization: string): void {
  if (virtualOrganizations === undefined || virtualOrganizations.includes(organization)) return;
  throw new Refusal(
    'Forbidden',
    `This session is for ${virtualOrganizations.join(', ')} alone: log in again for ${organization} (xos login, without --vo or with this one).`,
    { policy: 'session/virtualOrganizations', reason: 'OutsideOfSession' },
  );
}

function parseRefreshToken(token: string): { id: string; generation: number; mac: string } {
  const [, id, generation, mac] = /^xosr_([0-9a-f]{32})\.([0-9]{1,9})\.([A-Za-z0-9_-]{43})$/.exec(token) ?? [];
  if (id === undefined || generation === undefined || mac === undefined) throw unknownToken();
  return { id, generation: Number(generation), mac };
}

function unknownToken(): Refusal {
  return new Refusal(
    'SessionEnded',
    'The session has ended, or this is no refresh token of this gateway: log in again.',
  );
}

function sameText(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}
