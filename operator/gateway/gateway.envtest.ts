/** The gateway as users meet it: real TLS, real OpenID providers, a real API server, keys of a real cert-manager. One site serves all the cases. */
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { siteAnswer } from '#common/identity/gateway-api.ts';
import { systemNamespace } from '../testing/gateway-site.ts';
import { deviceCases } from './testing/device.cases.ts';
import { GatewayScene } from './testing/gateway-scene.ts';
import { loginCases } from './testing/login.cases.ts';
import { memberCases } from './testing/members.cases.ts';
import { sessionCases } from './testing/sessions.cases.ts';
import { troubleCases } from './testing/trouble.cases.ts';

jest.setTimeout(60_000);
const scene = new GatewayScene();
beforeAll(async () => scene.start(), 240_000);
afterAll(async () => scene.stop());

test('tells anyone how to log in', async () => {
  const answer = siteAnswer.parse((await scene.gateway.call('GET', '/v1/site')).body);
  expect(answer).toMatchObject({
    site: 'rennes',
    kubernetesLogin: true,
    identityProviders: [
      { name: 'lab', issuer: scene.lab.issuer },
      { name: 'campus' },
      { name: 'grid', type: 'ClientCertificate' },
    ],
  });
});

loginCases(scene);
deviceCases(scene);
sessionCases(scene);
memberCases(scene);
troubleCases(scene);

// The last one: it looks at what all the others left.
test('no secret is in logs, audit log, metrics, events or objects that people read (threat 65)', async () => {
  const texts = [...scene.site.output.lines, await scene.first.registry.metrics()];
  for (const path of [
    '/apis/events.k8s.io/v1/events',
    '/apis/xtreemos.io/v1alpha1/sites',
    '/apis/xtreemos.io/v1alpha1/virtualorganizations',
    '/apis/xtreemos.io/v1alpha1/vomemberships',
    '/api/v1/configmaps',
    `/apis/cert-manager.io/v1/namespaces/${systemNamespace}/certificates`,
  ]) {
    texts.push(JSON.stringify(await scene.site.client.list(path)));
  }
  expect(scene.site.output.audit().length).toBeGreaterThan(50);
  expect(scene.canaries.size).toBeGreaterThan(40);
  const all = texts.join('\n');
  const shown = [...scene.canaries].filter((secret) => secret.length > 12 && all.includes(secret));
  expect(shown).toEqual([]);
  const { items } = await scene.site.client.list(`/api/v1/namespaces/${systemNamespace}/secrets`);
  const keys = items.flatMap((each) => Object.values((each as { data?: Record<string, string> }).data ?? {}));
  const privateOnes = keys
    .map((value) => Buffer.from(value, 'base64').toString())
    .filter((text) => text.includes('PRIVATE KEY'));
  expect(privateOnes.length).toBeGreaterThan(5);
  for (const key of privateOnes) expect(all).not.toContain(key.split('\n')[1]);
});
