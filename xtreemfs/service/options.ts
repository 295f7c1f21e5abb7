import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { z } from 'zod';
import type { Clock } from '#common/clock.ts';
import { describeError, InvalidInputError } from '#common/errors.ts';
import { logLevels, type Logger } from '#common/logger.ts';
import { option, type OptionSpecs, type OptionValues } from '#common/options.ts';
import { formatAddress, parseAddress, type Address, type Scheme } from '../rpc/address.ts';
import { TlsMaterial } from '../rpc/tls.ts';
import { CapabilityKeys } from './capability.ts';
import type { ServiceHostOptions } from './host.ts';

const port = z.coerce.number().int('use a whole number').min(0).max(65_535);
const text = z.string().max(4096);

/**
 * Options that every XtreemFS server has. Ports default to upstream's; see each server's own options for the rest.
 * @param ports - of RPC and of the status page.
 */
export function serverOptionSpecs(ports: { readonly rpc: number; readonly http: number }) {
  return {
    port: option({ schema: port, about: 'Port of RPC; 0 takes any', default: String(ports.rpc), value: 'PORT' }),
    listenHost: option({ schema: text, about: 'Address to listen on; empty for all', default: '', value: 'HOST' }),
    hostName: option({
      schema: text,
      about: 'Name or address under which others reach this server; empty for the name of the machine',
      default: '',
      value: 'HOST',
    }),
    httpPort: option({
      schema: z.coerce.number().int('use a whole number').min(-1).max(65_535),
      about: 'Port of the status page; 0 takes any, --http-port=-1 switches it off',
      default: String(ports.http),
      value: 'PORT',
    }),
    httpHost: option({ schema: text, about: 'Address of the status page; empty for all', default: '', value: 'HOST' }),
    scheme: option({
      schema: z.enum(['pbrpc', 'pbrpcs', 'pbrpcg']),
      about: 'Protection of connections: pbrpc none, pbrpcs TLS, pbrpcg TLS handshake only',
      default: 'pbrpc',
      value: 'SCHEME',
    }),
    ...tlsOptionSpecs,
    adminPassword: option({
      schema: text,
      about: 'Password of administrative calls and of the status page; empty for none',
      default: '',
      value: 'TEXT',
      isSecret: true,
    }),
    logLevel: option({ schema: z.enum(logLevels), about: 'How much is logged', default: 'info', value: 'LEVEL' }),
  };
}

/** Options of keys and certificates, the same for servers and tools. */
export const tlsOptionSpecs = {
  tlsCertificate: option({ schema: text, about: 'Certificate chain, PEM', default: '', value: 'PATH' }),
  tlsPrivateKey: option({ schema: text, about: 'Private key, PEM', default: '', value: 'PATH' }),
  tlsPkcs12: option({ schema: text, about: 'Key and certificate in one PKCS #12 file', default: '', value: 'PATH' }),
  tlsPassphrase: option({
    schema: text,
    about: 'Passphrase of the private key or the PKCS #12 file',
    default: '',
    value: 'TEXT',
    isSecret: true,
  }),
  tlsTrusted: option({ schema: text, about: 'Trust anchors, PEM', default: '', value: 'PATH' }),
};

/** Options of servers that register at a DIR. */
export function memberOptionSpecs() {
  return {
    uuid: option({
      schema: z.string().regex(/^[A-Za-z0-9._-]{1,128}$/, 'use 1 to 128 letters, digits, dots, dashes or underscores'),
      about: 'UUID of this server; it must stay the same for ever',
      value: 'UUID',
    }),
    dir: option({
      schema: text.transform((value) => parseAddresses('--dir', value, 32_638)),
      about: 'DIRs, separated by commas; .autodiscover searches for one by broadcast',
      default: 'localhost:32638',
      value: 'HOST:PORT',
    }),
    capabilitySecret: option({
      schema: text.transform((value) => value.split(',').filter((secret) => secret !== '')),
      about: 'Secret that MRCs and OSDs share, at least 16 bytes; several, separated by commas, while it is changed',
      value: 'TEXT',
      isSecret: true,
    }),
    upstreamCapabilities: option({
      schema: z.boolean(),
      about: "Sign capabilities as upstream's servers do (weak; only for installations that have some)",
      default: 'false',
      isBoolean: true,
    }),
    capabilityVerifyKeys: option({
      schema: text,
      about: 'Ed25519 public keys, PEM one after the other: only capabilities signed with one of them are taken',
      default: '',
      value: 'PATH',
    }),
  } satisfies OptionSpecs;
}

type MemberOptionValues = OptionValues<ReturnType<typeof memberOptionSpecs>>;

/**
 * The keys of capabilities that options name.
 * @param signingKeyPath - PEM of an Ed25519 private key, at an MRC; empty: the shared secret signs.
 * @throws {InvalidInputError} when a file can't be read or holds no such key.
 */
export function capabilityKeys(
  values: Pick<MemberOptionValues, 'capabilitySecret' | 'upstreamCapabilities' | 'capabilityVerifyKeys'>,
  signingKeyPath = '',
): CapabilityKeys {
  const { capabilityVerifyKeys, upstreamCapabilities } = values;
  if (upstreamCapabilities && (capabilityVerifyKeys !== '' || signingKeyPath !== '')) {
    throw new InvalidInputError(
      '--upstream-capabilities',
      'goes without keys: leave out either this or the key options',
    );
  }
  const publicKeys = capabilityVerifyKeys === '' ? '' : readPem('--capability-verify-keys', capabilityVerifyKeys);
  const verifyKeyPems = publicKeys.match(/-----BEGIN [^-]+-----[^-]+-----END [^-]+-----/g) ?? [];
  if (capabilityVerifyKeys !== '' && verifyKeyPems.length === 0) {
    throw new InvalidInputError(
      '--capability-verify-keys',
      `${capabilityVerifyKeys} holds no PEM: openssl pkey -pubout`,
    );
  }
  return new CapabilityKeys({
    secrets: values.capabilitySecret,
    useUpstreamForm: upstreamCapabilities,
    verifyKeyPems,
    ...(signingKeyPath === '' ? {} : { signingKeyPem: readPem('--capability-signing-key', signingKeyPath) }),
  });
}

function readPem(field: string, path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new InvalidInputError(field, `${path} can't be read: ${describeError(error)}`, { cause: error });
  }
}

/** Values of {@link serverOptionSpecs}. */
export type ServerOptionValues = OptionValues<ReturnType<typeof serverOptionSpecs>>;

/** Values of {@link tlsOptionSpecs}. */
export type TlsOptionValues = OptionValues<typeof tlsOptionSpecs>;

type HostOptionValues = Omit<ServiceHostOptions, 'kind' | 'uuid' | 'dirs' | 'unknownProcedureErrno'>;

/** Reads addresses that are separated by commas. @throws {InvalidInputError} when there is none. */
export function parseAddresses(field: string, value: string, defaultPort: number): Address[] {
  const parts = value.split(',').filter((part) => part.trim() !== '');
  if (parts.length === 0) throw new InvalidInputError(field, 'is empty: use HOST:PORT, several separated by commas');
  return parts.map((part) => parseAddress(field, part.trim(), defaultPort));
}

/** The name under which others reach this server. */
export function advertisedHost(values: Pick<ServerOptionValues, 'hostName' | 'listenHost'>): string {
  if (values.hostName !== '') return values.hostName;
  return values.listenHost !== '' && values.listenHost !== '0.0.0.0' && values.listenHost !== '::'
    ? values.listenHost
    : hostname();
}

/** What a server's options say of how it stands on the network. */
export function hostOptions(
  values: ServerOptionValues & TlsOptionValues,
  deps: { readonly clock: Clock; readonly logger: Logger },
): HostOptionValues {
  const { scheme, port: rpcPort, httpPort, adminPassword } = values;
  return {
    clock: deps.clock,
    logger: deps.logger,
    scheme,
    tls: loadTls(scheme, values, deps),
    port: rpcPort,
    listenHost: values.listenHost === '' ? undefined : values.listenHost,
    advertisedHost: advertisedHost(values),
    httpPort,
    httpHost: values.httpHost === '' ? undefined : values.httpHost,
    adminPassword,
  };
}

/**
 * Keys and certificates for a scheme; undefined for plain connections.
 * @throws {InvalidInputError} when the scheme needs some and options are missing.
 */
export function loadTls(
  scheme: Scheme,
  values: TlsOptionValues,
  deps: { readonly clock: Clock; readonly logger: Logger },
): TlsMaterial | undefined {
  if (scheme === 'pbrpc') return undefined;
  if (values.tlsTrusted === '') throw new InvalidInputError('--tls-trusted', `is required with scheme ${scheme}`);
  const given = (value: string): string | undefined => (value === '' ? undefined : value);
  return new TlsMaterial(
    {
      certificatePath: given(values.tlsCertificate),
      privateKeyPath: given(values.tlsPrivateKey),
      pkcs12Path: given(values.tlsPkcs12),
      passphrase: given(values.tlsPassphrase),
      trustedPath: values.tlsTrusted,
    },
    deps,
  );
}

/** Options as an uploaded configuration shows them: secrets are left out. */
export function publicConfiguration(
  specs: OptionSpecs,
  values: Readonly<Record<string, unknown>>,
): { key: string; value: string }[] {
  return Object.entries(specs)
    .filter(([, spec]) => spec.isSecret !== true)
    .map(([name]) => ({ key: name, value: showValue(values[name]) }));
}

function showValue(value: unknown): string {
  if (Array.isArray(value))
    return value.map((item) => (isAddress(item) ? formatAddress(item) : String(item))).join(',');
  return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean' ? String(value) : '';
}

function isAddress(value: unknown): value is Address {
  return typeof value === 'object' && value !== null && 'host' in value && 'port' in value;
}
