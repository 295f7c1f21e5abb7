import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { type Action, decide, type MemberView, type OrganizationView, type SiteView } from './decide.ts';

const names = fc.constantFrom('physics', 'chemistry', 'biology');
const words = fc.constantFrom('jobs.manage', 'volumes.create', 'x.y');
const roleNames = fc.constantFrom('administrator', 'member', 'observer', 'operator');
const sites: fc.Arbitrary<SiteView> = fc.record({ name: fc.constant('rennes'), accepted: fc.array(names) });
const organizations: fc.Arbitrary<OrganizationView> = fc.record({
  name: names,
  state: fc.constantFrom('Forming', 'Operational', 'Frozen', 'Dissolved'),
  roles: fc.array(fc.record({ name: roleNames, capabilities: fc.array(words) })),
});
const members: fc.Arbitrary<MemberView> = fc.record({
  state: fc.constantFrom('Requested', 'Active', 'Suspended', 'Expired', 'Banned'),
  hasId: fc.boolean(),
  expiresAtMs: fc.option(fc.nat(2000), { nil: undefined }),
  roles: fc.array(roleNames),
  capabilities: fc.array(words),
});
const actions: fc.Arbitrary<Action> = fc.record({
  name: fc.constant('kubernetes.use'),
  capability: fc.option(words, { nil: undefined }),
  nowMs: fc.constant(1000),
});

describe('decide, over random policies (threat 53)', () => {
  test('a site that refuses is overruled by nothing, and its refusal is what is told', () => {
    fc.assert(
      fc.property(sites, organizations, members, actions, (site, vo, member, action) => {
        fc.pre(!site.accepted.includes(vo.name));
        expect(decide(site, vo, member, action)).toMatchObject({
          allowed: false,
          policy: 'site/acceptedVirtualOrganizations',
        });
      }),
    );
  });

  test('whatever a virtual organization says changes nothing for another one', () => {
    fc.assert(
      fc.property(sites, organizations, organizations, members, actions, (site, vo, hostile, member, action) => {
        fc.pre(vo.name !== hostile.name);
        const before = decide(site, vo, member, action);
        decide(site, hostile, member, action);
        expect(decide(site, vo, member, action)).toEqual(before);
      }),
    );
  });

  test('nothing is allowed unless all three agree', () => {
    fc.assert(
      fc.property(sites, organizations, members, actions, (site, vo, member, action) => {
        const { allowed, reason, message } = decide(site, vo, member, action);
        expect([reason, message].every((text) => text !== '')).toBe(true);
        const isCapable =
          action.capability === undefined ||
          member.roles.includes('administrator') ||
          member.capabilities.includes(action.capability) ||
          vo.roles.some(
            ({ name, capabilities }) => member.roles.includes(name) && capabilities.includes(action.capability!),
          );
        const isLive = member.state === 'Active' && member.hasId && (member.expiresAtMs ?? Infinity) > action.nowMs;
        const expected = isLive && isCapable && vo.state === 'Operational' && site.accepted.includes(vo.name);
        expect(allowed).toBe(expected);
      }),
    );
  });

  test('taking anything away from anyone never allows more', () => {
    fc.assert(
      fc.property(sites, organizations, members, actions, fc.nat(20), (site, vo, member, action, index) => {
        fc.pre(!decide(site, vo, member, action).allowed);
        const without = <T>(list: readonly T[]): T[] => list.filter((_, at) => at !== index % Math.max(1, list.length));
        const less = [
          decide({ ...site, accepted: without(site.accepted) }, vo, member, action),
          decide(site, { ...vo, roles: without(vo.roles) }, member, action),
          decide(site, vo, { ...member, roles: without(member.roles) }, action),
          decide(site, vo, { ...member, capabilities: without(member.capabilities) }, action),
        ];
        expect(less.some(({ allowed }) => allowed)).toBe(false);
      }),
    );
  });

  test('99 of 100 decisions take less than a millisecond of CPU', () => {
    const samples = fc.sample(fc.tuple(sites, organizations, members, actions), 2000);
    const times = samples.map(([site, vo, member, action]) => {
      const start = process.threadCpuUsage();
      decide(site, vo, member, action);
      const { user, system } = process.threadCpuUsage(start);
      return (user + system) / 1000;
    });
    times.sort((a, b) => a - b);
    expect(times[Math.floor(times.length * 0.99)]).toBeLessThan(1);
  });
});
