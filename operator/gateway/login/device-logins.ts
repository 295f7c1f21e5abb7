import { randomInt } from 'node:crypto';
import { z } from 'zod';
import { organizationsAsked, type PendingAnswer, principalSchema } from '#common/identity/gateway-api.ts';
import type { Principal } from '#common/identity/ids.ts';
import { ConflictError, NotFoundError } from '#runtime/errors.ts';
import { Refusal } from '../refusal.ts';
import { type RecordParts, SealedRecords } from '../sealed-records.ts';
import type { Sealer } from '../sealing.ts';
import { type DeviceHandle, sealHandle } from './handles.ts';

/** People have so long to type the code and to agree. */
const deviceMs = 10 * 60_000;
const intervalSeconds = 3;
/** Logins that wait at a gateway, and those that were asked for from one address. */
const waitingMax = 2000;
const perAddressMax = 50;
/** Letters that make no words and are not taken for one another (RFC 8628 §6.1): 20^8 codes, of which at most `waitingMax` mean something. */
const letters = 'BCDFGHJKLMNPQRSTVWXZ';
const codeLength = 8;

const recordSchema = z.strictObject({
  provider: z.string(),
  userCode: z.string(),
  /** What the program calls itself; nobody vouches for it. */
  program: z.string(),
  /** Where the program asked from. */
  address: z.string(),
  virtualOrganizations: organizationsAsked.optional(),
  beganMs: z.number(),
  endsMs: z.number(),
  decision: z
    .discriminatedUnion('is', [
      z.strictObject({ is: z.literal('Allowed'), principal: principalSchema }),
      z.strictObject({ is: z.literal('Refused') }),
    ])
    .optional(),
});
type DeviceRecord = z.infer<typeof recordSchema>;

/** What a program asked for, as the person sees it who is to agree. */
export interface DeviceRequest extends DeviceRecord {
  /** Of the record; tells nothing of the code. */
  readonly id: string;
}

/** What a program asks with. */
export interface DeviceStart {
  readonly provider: string;
  readonly challenge: string;
  readonly program: string;
  readonly address: string;
  readonly virtualOrganizations: readonly string[] | undefined;
}

/** What device logins need. */
export interface DeviceLoginParts extends RecordParts {
  /** `host:port` under which users reach the gateway. */
  readonly address: string;
}

/**
 * Logins of programs that have no browser (RFC 8628), for which somebody types a code at a page of this gateway and agrees there (threat 38): the pages of
 * providers can not say what the program is given here. One sealed record each, in a Secret of the operator's namespace, until the program has fetched
 * the answer; only whoever has the verifier can.
 */
export class DeviceLogins {
  private readonly parts: DeviceLoginParts;
  private readonly records: SealedRecords<DeviceRecord>;

  constructor(parts: DeviceLoginParts) {
    this.parts = parts;
    this.records = new SealedRecords(parts, {
      ...{ use: 'device-login', prefix: 'device', sealedAs: 'device-login' },
      ...{ tagLabel: 'xtreemos.io/address', schema: recordSchema },
    });
  }

  /** Starts one. @throws {Refusal} when too many wait. */
  async begin(start: DeviceStart, signal: AbortSignal): Promise<PendingAnswer> {
    const { clock, sealer, address } = this.parts;
    const addressTag = await this.records.tagOf('address', start.address);
    if (this.records.ids().length >= waitingMax || this.records.tagged(addressTag).length >= perAddressMax) {
      throw new Refusal('TooManyRequests', 'Too many logins wait for somebody to type their codes: try again later.', {
        retryAfterSeconds: 60,
      });
    }
    const code = Array.from({ length: codeLength }, () => letters[randomInt(letters.length)]).join('');
    const id = await this.idOf(code);
    const now = clock.now();
    const { challenge, ...shown } = start;
    const userCode = `${code.slice(0, codeLength / 2)}-${code.slice(codeLength / 2)}`;
    const endsMs = now + deviceMs;
    const record = recordSchema.parse({ ...shown, userCode, beganMs: now, endsMs });
    await this.records.create(id, record, addressTag, signal);
    return {
      ...this.pending(await sealer(), { method: 'device', record: id, challenge, endsMs }),
      userCode,
      verificationURI: `https://${address}/device`,
      verificationURIComplete: `https://${address}/device?code=${userCode}`,
    };
  }

  /** Looks once whether somebody has agreed; the answer is given once. @throws {Refusal} */
  async take(
    handle: DeviceHandle,
    signal: AbortSignal,
  ): Promise<{ principal: Principal; virtualOrganizations: readonly string[] | undefined } | PendingAnswer> {
    const found = await this.records.read(handle.record, signal);
    if (found === undefined) throw over();
    const { decision, virtualOrganizations } = found.content;
    if (decision === undefined) return this.pending(await this.parts.sealer(), handle);
    try {
      await this.records.remove(handle.record, signal);
    } catch (error) {
      if (error instanceof NotFoundError) throw over();
      throw error;
    }
    if (decision.is === 'Allowed') return { principal: decision.principal, virtualOrganizations };
    throw new Refusal('LoginRefused', 'This login was refused at the page of the gateway.', {
      reason: 'DeviceRefused',
    });
  }

  /** What the program with this code asked for, while nobody has decided. @param code - as people type it. @throws {Refusal} */
  async find(code: string, signal: AbortSignal): Promise<DeviceRequest> {
    const plain = code.toUpperCase().replaceAll(/[^A-Z]/g, '');
    return this.open(plain.length === codeLength ? await this.idOf(plain) : '', signal);
  }

  /** The same, by the id of its record. @throws {Refusal} */
  async open(id: string, signal: AbortSignal): Promise<DeviceRequest> {
    const found = id === '' ? undefined : await this.records.read(id, signal);
    if (found === undefined || found.content.decision !== undefined) {
      throw new Refusal('LoginExpired', 'No program waits with this code: it was mistyped, or its time is over.', {
        reason: 'UnknownUserCode',
      });
    }
    return { id, ...found.content };
  }

  /** Writes down what somebody decided; the first one counts. @param principal - who agreed; undefined: somebody refused. @throws {Refusal} */
  async decide(id: string, principal: Principal | undefined, signal: AbortSignal): Promise<void> {
    const found = await this.records.read(id, signal);
    if (found === undefined || found.content.decision !== undefined) throw over();
    const decision = principal === undefined ? ({ is: 'Refused' } as const) : ({ is: 'Allowed', principal } as const);
    try {
      await this.records.update(found, { ...found.content, decision }, signal);
    } catch (error) {
      if (error instanceof NotFoundError || error instanceof ConflictError) throw over();
      throw error;
    }
  }

  /** Forgets those whose time is over. For the one leader to call now and then. */
  async expire(signal: AbortSignal): Promise<void> {
    await this.records.expire(signal);
  }

  private pending(sealer: Sealer, handle: DeviceHandle): Extract<PendingAnswer, { method: 'device' }> {
    const expiresAt = new Date(handle.endsMs).toISOString();
    return { method: 'device', handle: sealHandle(sealer, handle), intervalSeconds, expiresAt };
  }

  private async idOf(code: string): Promise<string> {
    return this.records.tagOf('user-code', code);
  }
}

function over(): Refusal {
  return new Refusal('LoginExpired', 'This login is decided already, or its time is over: start again.');
}
