import { z } from 'zod';
import { InvalidInputError } from '#common/errors.ts';
import { option, type OptionValues } from '#common/options.ts';
import type { EtcdOptions } from './etcd.ts';

const text = z.string().max(4096);

/**
 * Options of a server whose records may be in etcd.
 * @param about - what happens then. @param prefix - default for what is put before every key.
 */
export function etcdOptionSpecs(about: string, prefix: string) {
  return {
    etcd: option({
      schema: text.transform((value) => value.split(',').filter((url) => url !== '')),
      about: `URLs of etcd members, separated by commas; ${about}`,
      default: '',
      value: 'URLS',
    }),
    etcdPrefix: option({ schema: text, about: 'Put before every key in etcd', default: prefix, value: 'PREFIX' }),
    etcdTrusted: option({ schema: text, about: 'Trust anchors of etcd, PEM', default: '', value: 'PATH' }),
    etcdCertificate: option({ schema: text, about: 'Certificate to show to etcd, PEM', default: '', value: 'PATH' }),
    etcdPrivateKey: option({ schema: text, about: 'Key of that certificate, PEM', default: '', value: 'PATH' }),
  };
}

/** How these options say that etcd is reached. @throws {InvalidInputError} when only some of its files are named. */
export function etcdOptions(values: OptionValues<ReturnType<typeof etcdOptionSpecs>>): EtcdOptions {
  const { etcd, etcdTrusted, etcdCertificate, etcdPrivateKey } = values;
  const paths = [etcdTrusted, etcdCertificate, etcdPrivateKey];
  if (paths.some((path) => path !== '') && paths.includes('')) {
    throw new InvalidInputError(
      '--etcd-trusted',
      'name all of --etcd-trusted, --etcd-certificate and --etcd-private-key',
    );
  }
  return {
    endpoints: etcd,
    ...(etcdTrusted === ''
      ? {}
      : { tls: { caPath: etcdTrusted, certificatePath: etcdCertificate, privateKeyPath: etcdPrivateKey } }),
  };
}
