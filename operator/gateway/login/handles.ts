/** What users carry between the steps of a login, sealed. */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { organizationsAsked } from '#common/identity/gateway-api.ts';
import { Refusal } from '../refusal.ts';
import type { Sealer } from '../sealing.ts';

const deviceHandle = z.strictObject({
  method: z.literal('device'),
  /** Name of the record of the login. */
  record: z.string(),
  challenge: z.string(),
  endsMs: z.number(),
});
const codeHandle = z.strictObject({
  method: z.literal('code'),
  provider: z.string(),
  codeVerifier: z.string(),
  state: z.string(),
  nonce: z.string(),
  redirectURI: z.string(),
  challenge: z.string(),
  endsMs: z.number(),
  /** The record of the device login that the browser agrees to; absent when the login is the client's own. */
  device: z.string().optional(),
  virtualOrganizations: organizationsAsked.optional(),
});

/** A login by a code that a person types at the gateway. */
export type DeviceHandle = z.infer<typeof deviceHandle>;
/** A login in a browser that comes back. */
export type CodeHandle = z.infer<typeof codeHandle>;

/** Seals a handle. */
export function sealHandle(sealer: Sealer, handle: DeviceHandle | CodeHandle): string {
  return `xosh_${sealer.seal('login-handle', handle)}`;
}

/** Opens a handle. @throws {Refusal} unless it is ours, in time, and whoever brings it is whoever started the login. */
export function openHandle(sealer: Sealer, handle: string, verifier: string, nowMs: number): DeviceHandle | CodeHandle {
  const sealed = handle.startsWith('xosh_') ? sealer.open('login-handle', handle.slice('xosh_'.length)) : undefined;
  const opened = z.discriminatedUnion('method', [deviceHandle, codeHandle]).safeParse(sealed);
  const unknown = 'This is no login that was started here: start again.';
  if (!opened.success) throw new Refusal('LoginExpired', unknown);
  if (createHash('sha256').update(verifier).digest('base64url') !== opened.data.challenge) {
    throw new Refusal('LoginRefused', unknown, { reason: 'VerifierMismatch' });
  }
  if (opened.data.endsMs <= nowMs) throw new Refusal('LoginExpired', 'The login took too long: start again.');
  return opened.data;
}
