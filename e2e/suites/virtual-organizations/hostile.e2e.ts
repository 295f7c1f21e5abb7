/** Objects made to crash controllers, sent to a real site by its owner and by a member: the operator goes on, and serves the others. */
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { sendHostileObjects, surprisesIn } from '#operator/testing/hostile.ts';
import type { TestSite } from '#sites/harness.ts';
import { KubeClient } from '#sites/kube-client.ts';
import { readCredentials } from '#sites/kubeconfig.ts';
import { Product } from '../product.ts';

jest.setTimeout(240_000);

const name = 'suite-hostile';
const count = 600;

let product: Product;
let site: TestSite;

beforeAll(async () => {
  product = await Product.install(name);
  ({ site } = product);
  await product.formOrganization();
  await product.join('alice');
}, 300_000);

afterAll(async () => {
  await site.tryKubectl(['delete', 'vo', '--all', '--wait=false']);
  await product.uninstall();
});

interface Pod {
  readonly metadata: { readonly name: string };
  readonly status: { readonly containerStatuses?: readonly { readonly restartCount: number }[] };
}

const operators = async (): Promise<readonly Pod[]> => {
  const labels = 'app.kubernetes.io/component=operator';
  return (await site.get<{ items: Pod[] }>('pods', '-n', name, '-l', labels)).items;
};

test('the operator never restarts, is never surprised, and serves a new virtual organization (threat 14)', async () => {
  const { userName } = await product.logIn('alice');
  const token = (await site.kubectl(['create', 'token', userName, '-n', product.namespace])).trim();
  const administrator = site.client();
  const member = new KubeClient({ ...readCredentials(site.kubeconfig), token });
  try {
    await sendHostileObjects({ count, namespace: product.namespace, administrator, member });
  } finally {
    member.close();
    administrator.close();
  }
  const accepted = { spec: { local: { acceptedVirtualOrganizations: [{ name }, { name: 'honest' }] } } };
  await site.kubectl(['patch', 'site', 'home', '--type=merge', '-p', JSON.stringify(accepted)]);
  const administrators = [{ issuer: 'kubernetes:home', subject: 'root' }];
  const about = { apiVersion: 'xtreemos.io/v1alpha1', kind: 'VirtualOrganization', metadata: { name: 'honest' } };
  await site.apply([{ ...about, spec: { state: 'Operational', administrators } }]);
  await site.kubectl(['wait', '--for=condition=Ready', 'vo/honest', '--timeout=90s'], { timeoutMs: 100_000 });
  const pods = await operators();
  expect(pods.length).toBeGreaterThan(0);
  for (const { metadata, status } of pods) {
    expect(status.containerStatuses?.map(({ restartCount }) => restartCount)).toEqual([0, 0]);
    const log = await site.kubectl(['logs', metadata.name, '-n', name, '-c', 'operator', '--tail=-1']);
    expect(surprisesIn(log)).toEqual([]);
  }
});
