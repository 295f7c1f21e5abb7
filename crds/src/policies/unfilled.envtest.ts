/** What holds by policies that only refuse, as on a Kubernetes that fills nothing in, and while nothing of the operator runs. */
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { waitFor } from '#sites/kube-client.ts';
import {
  accounts,
  aPod,
  completeSpec,
  namespace,
  type Organization,
  pods,
  refusal,
  startOrganization,
} from './testing/organization.ts';

jest.setTimeout(90_000);
let organization: Organization;

beforeAll(async () => {
  organization = await startOrganization({ name: 'plain', fills: false, withControllers: true });
}, 120_000);
afterAll(async () => organization.stop());

test('a short pod is refused with what to write, and a complete one is accepted', async () => {
  const bob = organization.as('bob');
  expect(await refusal(bob, pods(), aPod('x'))).toMatch(
    /serviceAccountName.*(set it to your own account|name the account of the member)/,
  );
  expect(await refusal(bob, pods(), aPod('x', completeSpec(accounts.bob)))).toBe('');
});

test('an object must say whose it is', async () => {
  const configMaps = `/api/v1/namespaces/${namespace}/configmaps`;
  const owned = { metadata: { name: 'x', labels: { 'xtreemos.io/owner': accounts.bob } } };
  expect(await refusal(organization.as('bob'), configMaps, owned)).toBe('');
  expect(await refusal(organization.as('bob'), configMaps, { metadata: { name: 'x' } })).toMatch(
    /names nobody and not u-bob/,
  );
});

describe('threat 55: nothing of the operator runs here, and', () => {
  test('there is no webhook', async () => {
    for (const kind of ['validating', 'mutating']) {
      expect(
        (await organization.admin.list(`/apis/admissionregistration.k8s.io/v1/${kind}webhookconfigurations`)).items,
      ).toEqual([]);
    }
  });
  test('other namespaces are as they were', async () => {
    const pod = aPod('x', {
      hostNetwork: true,
      containers: [{ name: 'a', image: 'b', securityContext: { privileged: true } }],
    });
    // Its default account is made a moment after the namespace.
    await waitFor(
      'the pod is accepted',
      async () => (await refusal(organization.admin, pods(undefined, 'kube-system'), pod)) === '',
    );
  });
  test('an API server that starts anew refuses from its first answer on', async () => {
    const hostile = aPod('x', { ...completeSpec(accounts.alice), hostNetwork: true });
    await organization.plane.restartApiServer();
    const answer = await refusal(organization.as('alice'), pods(), hostile);
    expect(answer).not.toBe('');
    await waitFor('it refuses for the reason', async () =>
      (await refusal(organization.as('alice'), pods(), hostile)).includes('hostNetwork: is not allowed'),
    );
  });
});
