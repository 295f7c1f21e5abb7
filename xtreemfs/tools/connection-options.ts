import { InvalidInputError } from '#common/errors.ts';
import type { Scheme } from '../rpc/address.ts';
import type { TlsFiles } from '../rpc/tls.ts';
import type { ToolOption, ToolOptions } from './command.ts';

/** Options of certificates, with upstream's names. */
export const connectionOptions: Readonly<Record<string, ToolOption>> = {
  'pem-certificate-file-path': { about: 'Certificate of the user, PEM', value: 'PATH' },
  'pem-private-key-file-path': { about: 'Private key of the user, PEM', value: 'PATH' },
  'pem-private-key-passphrase': { about: 'Passphrase of the private key', value: 'TEXT' },
  'pem-trusted-certificates-file-path': { about: 'Trust anchors, PEM', value: 'PATH' },
  'pkcs12-file-path': { about: 'Key and certificate in one PKCS #12 file', value: 'PATH' },
  'pkcs12-passphrase': { about: 'Passphrase of the PKCS #12 file', value: 'TEXT' },
  'grid-ssl': { isFlag: true, about: 'TLS handshake only, then plain (pbrpcg)' },
  'verify-certificates': { isFlag: true, about: "Check that a server's certificate names its host" },
};

/** Scheme and certificates that the options ask for. @throws {InvalidInputError} when something is missing. */
export function readConnection(options: ToolOptions, urlScheme: Scheme): { scheme: Scheme; tls?: TlsFiles } {
  const scheme: Scheme = options.has('grid-ssl') ? 'pbrpcg' : urlScheme;
  if (scheme === 'pbrpc') return { scheme };
  const trustedPath = options.text('pem-trusted-certificates-file-path');
  if (trustedPath === undefined) {
    throw new InvalidInputError('--pem-trusted-certificates-file-path', `is required with ${scheme}`);
  }
  return {
    scheme,
    tls: {
      certificatePath: options.text('pem-certificate-file-path'),
      privateKeyPath: options.text('pem-private-key-file-path'),
      pkcs12Path: options.text('pkcs12-file-path'),
      passphrase: options.text('pkcs12-passphrase') ?? options.text('pem-private-key-passphrase'),
      trustedPath,
      checkHostName: options.has('verify-certificates'),
    },
  };
}
