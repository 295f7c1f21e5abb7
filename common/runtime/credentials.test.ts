import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { inClusterCredentials, kubeConfigCredentials } from './credentials.ts';

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(path.join(tmpdir(), 'xtreemos-credentials-'));
});
afterAll(() => rmSync(dir, { recursive: true }));

function aKubeConfig(user: object, cluster: object = {}): string {
  const file = path.join(dir, `config-${Math.random()}`);
  const ca = Buffer.from('CA').toString('base64');
  writeFileSync(
    file,
    stringify({
      'current-context': 'one',
      contexts: [{ name: 'one', context: { cluster: 'c', user: 'u' } }],
      clusters: [
        { name: 'c', cluster: { server: 'https://api.test:6443', 'certificate-authority-data': ca, ...cluster } },
      ],
      users: [{ name: 'u', user }],
    }),
  );
  return file;
}

describe('in a cluster', () => {
  test('token and authority are read anew each time, since the kubelet rotates them', async () => {
    writeFileSync(path.join(dir, 'token'), 'first\n');
    writeFileSync(path.join(dir, 'ca.crt'), 'CA');
    const source = inClusterCredentials({ folder: dir, host: 'fd00::1', port: '443' });
    expect(await source.load(false)).toEqual({
      origin: 'https://[fd00::1]:443',
      basePath: '',
      headers: { authorization: 'Bearer first' },
      tls: { ca: 'CA', rejectUnauthorized: true },
    });
    writeFileSync(path.join(dir, 'token'), 'second');
    expect((await source.load(false)).headers).toEqual({ authorization: 'Bearer second' });
  });

  test('outside of one it says what to do', () => {
    expect(() => inClusterCredentials({ host: '' })).toThrow(/KUBERNETES_SERVICE_HOST: is empty: run in a pod/);
  });
});

describe('with a kubeconfig', () => {
  test('certificates come from the file, and the path of the server is kept', async () => {
    const data = (text: string): string => Buffer.from(text).toString('base64');
    const user = { 'client-certificate-data': data('CERT'), 'client-key-data': data('KEY') };
    const file = aKubeConfig(user, { server: 'https://rancher.test/k8s/clusters/c-1/' });
    expect(await kubeConfigCredentials({ file }).load(false)).toMatchObject({
      origin: 'https://rancher.test',
      basePath: '/k8s/clusters/c-1',
      tls: { ca: 'CA', cert: 'CERT', key: 'KEY', rejectUnauthorized: true },
    });
  });

  test('an exec plug-in is asked once, and again when its token was refused', async () => {
    const counter = path.join(dir, 'count');
    const script =
      `echo x >> ${counter}; printf '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential",` +
      `"status":{"token":"t%s"}}' $(wc -l < ${counter})`;
    const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: 'sh', args: ['-c', script] };
    const source = kubeConfigCredentials({ file: aKubeConfig({ exec }) });
    const tokens: unknown[] = [];
    for (const renew of [false, false, true]) tokens.push((await source.load(renew)).headers.authorization);
    expect(tokens).toEqual(['Bearer t1', 'Bearer t1', 'Bearer t2']);
  });

  test('a SOCKS proxy is refused with a way out', async () => {
    const file = aKubeConfig({ token: 'x' }, { 'proxy-url': 'socks5://localhost:1080' });
    await expect(kubeConfigCredentials({ file }).load(false)).rejects.toThrow(/use an HTTP proxy/);
  });

  test('a context without a cluster is named', async () => {
    const source = kubeConfigCredentials({ file: aKubeConfig({ token: 'x' }), context: 'other' });
    await expect(source.load(false)).rejects.toThrow(/context other names no cluster/);
  });
});
