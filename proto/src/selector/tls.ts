import { experimental, type ChannelCredentials, type ServerCredentials } from '@grpc/grpc-js';

/** PEM files of one end of mutual TLS. */
export interface TlsFiles {
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
}

const refreshIntervalMs = 60_000;

/**
 * Credentials of both directions that follow their files: cert-manager replaces certificates while the process runs, and
 * new connections use the new ones.
 */
export function followTlsFiles(files: TlsFiles): { client: ChannelCredentials; server: ServerCredentials } {
  const provider = new experimental.FileWatcherCertificateProvider({
    certificateFile: files.certificate,
    privateKeyFile: files.key,
    caCertificateFile: files.ca,
    refreshIntervalMs,
  });
  return {
    client: experimental.createCertificateProviderChannelCredentials(provider, provider),
    server: experimental.createCertificateProviderServerCredentials(provider, provider, true),
  };
}
