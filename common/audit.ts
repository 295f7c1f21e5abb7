/** The audit log: who did or tried what, how it was decided, and by which rule. */
import type { Clock } from './clock.ts';

/** How an act ended. */
export type AuditOutcome = 'Allowed' | 'Refused' | 'Failed';

/** One decision or refusal. Fields are words and names; there is no place for a credential. */
export interface AuditRecord {
  /** Who acted: a principal, the name of a part of the system, or `anonymous`. */
  readonly who: { readonly issuer: string; readonly subject: string } | string;
  /** What was tried: area, dot, verb, for example `session.create`. */
  readonly what: string;
  /** What it was tried on, by kind, for example `{ VirtualOrganization: 'physics' }`. */
  readonly on?: Readonly<Record<string, string>> | undefined;
  readonly outcome: AuditOutcome;
  /** CamelCase reason, for programs. */
  readonly why: string;
  /** One sentence, for people. */
  readonly message?: string | undefined;
  /** Rule that decided, for example `site/acceptedVirtualOrganizations`. */
  readonly policy?: string | undefined;
  /** Address that the request came from. */
  readonly from?: string | undefined;
  /** Ties records of one act together. */
  readonly id?: string | undefined;
}

/** Takes records. Never throws and never waits. */
export interface AuditLog {
  record(record: AuditRecord): void;
}

/** Longest text of a field. */
const textMax = 512;

/** A JWT or JWS, a bearer token, a key: never meant to be here, so they are taken out should a message ever quote one. */
const secretLike =
  /\beyJ[A-Za-z0-9_-]{5,}(\.[A-Za-z0-9_-]*){1,4}|\b[Bb]earer\s+\S+|-----BEGIN [^-]*PRIVATE KEY-----[\s\S]*?(-----END|$)|\bxos[rsh]_[A-Za-z0-9_.-]+/g;

/**
 * Writes each record as one line of JSON with `"audit":true`, beside the lines of the log, so that collectors can tell them apart by that field.
 * @param destination - default: stdout, which is where a container's log comes from.
 */
export class JsonAuditLog implements AuditLog {
  private readonly clock: Clock;
  private readonly destination: { write(line: string): unknown };

  constructor(clock: Clock, destination: { write(line: string): unknown } = process.stdout) {
    this.clock = clock;
    this.destination = destination;
  }

  record(record: AuditRecord): void {
    const { who, what, on, outcome, why, message, policy, from, id } = record;
    const line = {
      time: new Date(this.clock.now()).toISOString(),
      audit: true,
      who: typeof who === 'string' ? clean(who) : { issuer: clean(who.issuer), subject: clean(who.subject) },
      what: clean(what),
      on:
        on === undefined ? undefined : Object.fromEntries(Object.entries(on).map(([kind, key]) => [kind, clean(key)])),
      outcome,
      why: clean(why),
      message: message === undefined ? undefined : clean(message),
      policy: policy === undefined ? undefined : clean(policy),
      from: from === undefined ? undefined : clean(from),
      id: id === undefined ? undefined : clean(id),
    };
    this.destination.write(`${JSON.stringify(line)}\n`);
  }
}

/** Cut, without what looks like a secret and without characters that steer a terminal. */
function clean(text: string): string {
  const cut = text.length > 4 * textMax ? text.slice(0, 4 * textMax) : text;
  const harmless = cut.replaceAll(secretLike, '[redacted]').replaceAll(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, '?');
  return harmless.length <= textMax ? harmless : `${harmless.slice(0, textMax)}…`;
}
