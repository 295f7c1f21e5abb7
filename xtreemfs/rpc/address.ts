import { InvalidInputError } from '#common/errors.ts';

/** Where a server listens. */
export interface Address {
  /** Host name or IP address, without brackets. */
  readonly host: string;
  readonly port: number;
}

/**
 * How a connection is protected: `pbrpc` not at all, `pbrpcs` by TLS, `pbrpcg` by a TLS handshake with certificates
 * after which both sides go on in the clear (protocol reference, 1.3).
 */
export type Scheme = 'pbrpc' | 'pbrpcs' | 'pbrpcg';

const schemes: readonly string[] = ['pbrpc', 'pbrpcs', 'pbrpcg'];

/** Whether `text` names a scheme of TCP connections. */
export function isScheme(text: string): text is Scheme {
  return schemes.includes(text);
}

/** `host:port`; an IPv6 address in brackets. */
export function formatAddress({ host, port }: Address): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}

/**
 * Reads `[scheme://]host[:port]`.
 * @param defaultPort - taken when the text has none.
 * @throws {InvalidInputError} when the text is no address.
 */
export function parseAddress(field: string, text: string, defaultPort?: number): Address & { scheme?: Scheme } {
  const match = /^(?:([a-z]+):\/\/)?(\[[0-9a-fA-F:.]+\]|[^\s:/@[\]]+)(?::(\d{1,5}))?$/.exec(text);
  if (match === null) {
    throw new InvalidInputError(field, `${JSON.stringify(text)} is no address: use [pbrpc://]HOST[:PORT]`);
  }
  const [, scheme, host = '', portText] = match;
  if (scheme !== undefined && !isScheme(scheme)) {
    throw new InvalidInputError(field, `scheme ${scheme} is not known: use ${schemes.join(', ')}`);
  }
  const port = portText === undefined ? defaultPort : Number(portText);
  if (port === undefined || port < 1 || port > 65_535) {
    throw new InvalidInputError(field, `${JSON.stringify(text)} needs a port from 1 to 65535: use HOST:PORT`);
  }
  return { host: host.replace(/^\[|\]$/g, ''), port, ...(scheme === undefined ? {} : { scheme }) };
}
