import { createHmac, randomInt } from 'node:crypto';
import { z } from 'zod';
import type { Clock } from '#common/clock.ts';
import { organizationsAsked, type PendingAnswer, principalSchema } from '#common/identity/gateway-api.ts';
import type { Principal } from '#common/identity/ids.ts';
import { type Secret, secrets } from '#runtime/builtin.ts';
import type { Client, Informer } from '#runtime/contracts.ts';
import { ConflictError, ignoreNotFound, NotFoundError } from '#runtime/errors.ts';
import type { Stored } from '#runtime/types.ts';
import { Refusal } from '../refusal.ts';
import type { Sealer } from '../sealing.ts';
import { gatewayLabel } from '../sessions.ts';
import { type DeviceHandle, sealHandle } from './handles.ts';

const deviceUse = 'device-login';
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
  /** Name of the record, which tells nothing of the code. */
  readonly name: string;
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
export interface DeviceLoginParts {
  /** Not fenced: every replica keeps them, and each write compares versions. */
  readonly client: Client;
  /** Secrets of the operator's namespace with {@link gatewayLabel}. */
  readonly informer: Informer<Secret>;
  readonly namespace: string;
  readonly sealer: () => Promise<Sealer>;
  /** The key that names of records are made with. */
  readonly refreshKey: () => Promise<Buffer>;
  readonly clock: Clock;
  /** `host:port` under which users reach the gateway. */
  readonly address: string;
}

const addressLabel = 'xtreemos.io/address';
const addressIndex = 'address';

/**
 * Logins of programs that have no browser (RFC 8628), for which somebody types a code at a page of this gateway and agrees there (threat 38): the pages of
 * providers can not say what the program is given here. One sealed record each, in a Secret of the operator's namespace, until the program has fetched
 * the answer; only whoever has the verifier can.
 */
export class DeviceLogins {
  private readonly parts: DeviceLoginParts;

  constructor(parts: DeviceLoginParts) {
    this.parts = parts;
    parts.informer.addIndex(addressIndex, ({ metadata }) => [metadata.labels?.[addressLabel] ?? '']);
  }

  /** Starts one. @throws {Refusal} when too many wait. */
  async begin(start: DeviceStart, signal: AbortSignal): Promise<PendingAnswer> {
    const { client, clock, sealer, address } = this.parts;
    const addressTag = await this.tag('address', start.address);
    if (
      this.all().length >= waitingMax ||
      this.parts.informer.byIndex(addressIndex, addressTag).length >= perAddressMax
    ) {
      throw new Refusal('TooManyRequests', 'Too many logins wait for somebody to type their codes: try again later.', {
        retryAfterSeconds: 60,
      });
    }
    const code = Array.from({ length: codeLength }, () => letters[randomInt(letters.length)]).join('');
    const name = await this.nameOf(code);
    const now = clock.now();
    const { challenge, ...shown } = start;
    const userCode = `${code.slice(0, codeLength / 2)}-${code.slice(codeLength / 2)}`;
    const endsMs = now + deviceMs;
    const record = recordSchema.parse({ ...shown, userCode, beganMs: now, endsMs });
    await client.of(secrets).create(await this.secretOf(name, record, addressTag), { signal });
    return {
      ...this.pending(await sealer(), { method: 'device', record: name, challenge, endsMs }),
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
    const found = await this.read(handle.record, signal);
    const { decision, virtualOrganizations } = found?.record ?? {};
    if (found === undefined) throw over();
    if (decision === undefined) return this.pending(await this.parts.sealer(), handle);
    try {
      const key = { namespace: this.parts.namespace, name: handle.record };
      await this.parts.client.of(secrets).delete(key, { signal });
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
    return this.open(plain.length === codeLength ? await this.nameOf(plain) : '', signal);
  }

  /** The same, by the name of its record. @throws {Refusal} */
  async open(name: string, signal: AbortSignal): Promise<DeviceRequest> {
    const found = name === '' ? undefined : await this.read(name, signal);
    if (found === undefined || found.record.decision !== undefined) {
      throw new Refusal('LoginExpired', 'No program waits with this code: it was mistyped, or its time is over.', {
        reason: 'UnknownUserCode',
      });
    }
    return { name, ...found.record };
  }

  /** Writes down what somebody decided; the first one counts. @param principal - who agreed; undefined: somebody refused. @throws {Refusal} */
  async decide(name: string, principal: Principal | undefined, signal: AbortSignal): Promise<void> {
    const found = await this.read(name, signal);
    if (found === undefined || found.record.decision !== undefined) throw over();
    const { secret, record } = found;
    const decision = principal === undefined ? ({ is: 'Refused' } as const) : ({ is: 'Allowed', principal } as const);
    const changed = await this.secretOf(name, { ...record, decision }, secret.metadata.labels?.[addressLabel] ?? '');
    changed.metadata.resourceVersion = secret.metadata.resourceVersion;
    try {
      await this.parts.client.of(secrets).update(changed, { signal });
    } catch (error) {
      if (error instanceof NotFoundError || error instanceof ConflictError) throw over();
      throw error;
    }
  }

  /** Forgets those whose time is over. For the one leader to call now and then. */
  async expire(signal: AbortSignal): Promise<void> {
    for (const { metadata } of this.all()) {
      if (Number(metadata.annotations?.['xtreemos.io/ends-ms']) > this.parts.clock.now()) continue;
      await ignoreNotFound(this.parts.client.of(secrets).delete(metadata, { signal }));
    }
  }

  private all(): Stored<Secret>[] {
    return this.parts.informer.list().filter(({ metadata }) => metadata.labels?.[gatewayLabel] === deviceUse);
  }

  private pending(sealer: Sealer, handle: DeviceHandle): Extract<PendingAnswer, { method: 'device' }> {
    const expiresAt = new Date(handle.endsMs).toISOString();
    return { method: 'device', handle: sealHandle(sealer, handle), intervalSeconds, expiresAt };
  }

  /** Read from the API server itself: what was decided at another replica counts at once. */
  private async read(
    name: string,
    signal: AbortSignal,
  ): Promise<{ secret: Stored<Secret>; record: DeviceRecord } | undefined> {
    const secret = await this.parts.client.of(secrets).find({ namespace: this.parts.namespace, name }, { signal });
    const sealed = Buffer.from(secret?.data?.record ?? '', 'base64').toString();
    const record = recordSchema.safeParse((await this.parts.sealer()).open('device-login', sealed, name));
    if (secret === undefined || !record.success || record.data.endsMs <= this.parts.clock.now()) return undefined;
    return { secret, record: record.data };
  }

  private async secretOf(name: string, record: DeviceRecord, addressTag: string): Promise<Secret> {
    const sealed = (await this.parts.sealer()).seal('device-login', record, name);
    return {
      metadata: {
        name,
        namespace: this.parts.namespace,
        labels: { [gatewayLabel]: deviceUse, [addressLabel]: addressTag },
        annotations: { 'xtreemos.io/ends-ms': String(record.endsMs) },
      },
      type: 'xtreemos.io/device-login',
      data: { record: Buffer.from(sealed).toString('base64') },
    };
  }

  private async nameOf(code: string): Promise<string> {
    return `device-${await this.tag('user-code', code)}`;
  }

  private async tag(use: string, text: string): Promise<string> {
    const mac = createHmac('sha256', await this.parts.refreshKey()).update(JSON.stringify([use, text]));
    return mac.digest('hex').slice(0, 32);
  }
}

function over(): Refusal {
  return new Refusal('LoginExpired', 'This login is decided already, or its time is over: start again.');
}
