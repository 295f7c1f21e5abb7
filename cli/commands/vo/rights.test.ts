/** What commands do with what the caller may not see, and with the word of the site's owner on where an organization comes from. */
import { describe, expect, test } from '@jest/globals';
import { getOrExplain } from '../../api/organizations.ts';
import { aCluster, aContext, anOrganization, type FakeOrganizations } from '../../testing/fakes.ts';
import { approveAtSite } from './approve.ts';
import { createOrganization } from './create.ts';

const common = {
  output: 'table' as const,
  dryRun: false,
  wait: false,
  timeout: 1000,
  context: undefined,
  kubeconfig: undefined,
};
const approving = {
  ...common,
  name: 'physics',
  cpu: undefined,
  memory: undefined,
  storage: undefined,
  home: undefined as string | undefined,
  withdraw: false,
};

class ForbiddenError extends Error {
  override readonly name = 'ForbiddenError';
  readonly statusCode = 403;
}
const refuse = async (): Promise<never> => Promise.reject(new ForbiddenError('you may not'));

describe('vo approve', () => {
  const acceptedBy = (api: FakeOrganizations): unknown => api.sites.stored.get('/rennes')?.spec;
  const accepted = (...entries: object[]): object => ({ local: { acceptedVirtualOrganizations: entries } });

  test('accepts one from another site by the word of the owner, which stays when the limits change', async () => {
    const api = aCluster();
    const context = aContext({ isTerminal: true });
    await approveAtSite(context, { ...approving, home: 'lyon' }, api);
    expect(context.stderr()).toContain('once its home, lyon, tells of it');
    await approveAtSite(aContext(), { ...approving, cpu: '64' }, api);
    expect(acceptedBy(api)).toMatchObject(accepted({ name: 'physics', home: 'lyon', limits: { cpu: '64' } }));
  });

  test('never takes the home from what the organization says of itself', async () => {
    const api = aCluster({ organizations: [anOrganization({ homeSite: 'lyon' })] });
    await expect(approveAtSite(aContext(), approving, api)).rejects.toMatchObject({
      message: 'physics says that its home is lyon, and you would accept one from this site, rennes',
      remedy: 'If that is the one that you mean: --home lyon',
    });
    expect(acceptedBy(api)).toMatchObject(accepted());
    await approveAtSite(aContext(), { ...approving, home: 'lyon' }, api);
    expect(acceptedBy(api)).toMatchObject(accepted({ name: 'physics', home: 'lyon' }));
    await approveAtSite(aContext(), { ...approving, withdraw: true }, api);
    expect(acceptedBy(api)).toMatchObject(accepted());
  });

  test('takes the own site as home for one that was formed here', async () => {
    const api = aCluster({ organizations: [anOrganization({ homeSite: 'rennes' })] });
    await approveAtSite(aContext(), { ...approving, home: 'rennes' }, api);
    expect(acceptedBy(api)).toEqual(expect.objectContaining(accepted({ name: 'physics' })));
    expect(JSON.stringify(acceptedBy(api))).not.toContain('home');
    const wrong = approveAtSite(aContext(), { ...approving, home: 'lyon' }, api);
    await expect(wrong).rejects.toMatchObject({ remedy: 'If that is the one that you mean: --home rennes' });
  });
});

describe('who may not see it', () => {
  const creating = {
    ...{ ...common, name: 'physics', administrator: [], group: [], uidMode: 'Global' as const, activate: true },
    ...{ description: undefined, enrolment: undefined, acceptableUse: undefined, isolation: undefined },
    ...{ cpu: undefined, memory: undefined, storage: undefined, secondAdministrator: false, delay: undefined },
    wait: true,
  };
  const fields = { enrolment: { mode: 'Closed' } };

  test('forms one all the same, and waits for the owner of the site, who gives them the right', async () => {
    const api = aCluster();
    const seeing = api.organizations.find.bind(api.organizations);
    let looks = 0;
    api.organizations.create = async (object) => api.organizations.put(object);
    api.organizations.find = async (key) => {
      if (++looks < 3) return refuse();
      const conditions = [{ type: 'Ready', status: 'True', reason: 'Operational', message: '' }];
      const status = { state: 'Operational', observedGeneration: 9, conditions };
      api.organizations.put({ ...anOrganization({ state: 'Operational' }), status } as never);
      return seeing(key);
    };
    const context = aContext();
    await createOrganization(context, creating, fields, api);
    expect(context.stdout()).toBe('Virtual organization physics is formed\n');
  });

  test('is told what to do when that takes too long', async () => {
    const api = aCluster();
    api.organizations.create = async (object) => api.organizations.put(object);
    api.organizations.find = refuse;
    await expect(createOrganization(aContext(), creating, fields, api)).rejects.toMatchObject({
      reason: 'timeout',
      message: expect.stringContaining('the owner of the site lets it in first (xos vo approve physics)'),
    });
  });

  test('is not told that there are none', async () => {
    const api = aCluster({ organizations: [anOrganization()] });
    api.organizations.list = refuse;
    const looked = getOrExplain(api.organizations, { name: 'biology' }, 'virtual organization', aContext().signal);
    await expect(looked).rejects.toMatchObject({ message: 'No virtual organization is called biology' });
  });
});
