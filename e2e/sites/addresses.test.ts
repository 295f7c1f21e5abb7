import { describe, expect, test } from '@jest/globals';

import { chooseIndex, limits, networksOf, overlaps, planInstance } from './addresses.ts';

describe('the address plan', () => {
  test('gives every machine, pod network and service network of all instances a place of its own', () => {
    const plans = Array.from({ length: limits.instances }, (_, index) =>
      planInstance(`i${index}`, index, limits.sites, limits.nodes),
    );
    const sites = plans.flatMap((plan) => plan.sites);
    const nodes = sites.flatMap((site) => site.nodes);
    const machines = [...sites.map((site) => site.controlPlane), ...nodes.map((node) => node.address)];
    expect(new Set(machines).size).toBe(machines.length);
    expect(new Set(nodes.map((node) => node.podCidr)).size).toBe(nodes.length);
    const networks = sites.flatMap((site) => [site.subnet, site.podCidr, site.serviceCidr]);
    for (const [index, network] of networks.entries()) {
      const meeting = networks.filter((other, at) => at > index && overlaps(network, other));
      expect([network, meeting]).toEqual([network, []]);
    }
  });

  test('keeps nodes inside the networks of their site', () => {
    for (const site of planInstance('x', 3, 15, 15).sites) {
      for (const node of site.nodes) {
        expect(overlaps(site.subnet, `${node.address}/32`)).toBe(true);
        expect(overlaps(site.podCidr, node.podCidr)).toBe(true);
        expect(node.port.length).toBeLessThanOrEqual(15);
      }
      expect(overlaps(site.serviceCidr, `${site.dnsService}/32`)).toBe(true);
    }
  });

  test.each([
    ['an empty name', '', 1, 1, /^NAME: must be/],
    ['a name with capitals', 'Dev', 1, 1, /^NAME: must be/],
    ['a name that climbs', '../x', 1, 1, /^NAME: must be/],
    ['a name that ends with a dash', 'x-', 1, 1, /^NAME: must be/],
    ['a name that is too long', 'a'.repeat(21), 1, 1, /^NAME: must be/],
    ['no site', 'dev', 0, 1, /^SITES: must be a whole number from 1 to 15, not 0/],
    ['too many sites', 'dev', 16, 1, /^SITES: .* not 16/],
    ['half a node', 'dev', 1, 1.5, /^NODES: .* not 1.5/],
    ['no number', 'dev', 1, Number.NaN, /^NODES: .* not NaN/],
  ])('refuses %s', (_what, name, sites, nodes, message) => {
    expect(() => planInstance(name, 0, sites, nodes)).toThrow(message);
  });
});

describe('choosing a number', () => {
  test('takes the lowest that no other instance has', () => {
    expect(chooseIndex(new Set([0, 1, 3]), [])).toBe(2);
  });

  test('passes over numbers whose networks this machine already routes', () => {
    expect(chooseIndex(new Set(), ['default', '192.168.0.0/16', '10.160.4.0/24', '10.193.0.1'])).toBe(2);
  });

  test('says what to do when none is left', () => {
    expect(() => chooseIndex(new Set(), ['10.0.0.0/8'])).toThrow(/no free addresses.*ip route/s);
  });

  test('numbers stand for three networks each', () => {
    expect(networksOf(2)).toEqual(['10.162.0.0/16', '10.178.0.0/16', '10.194.0.0/16']);
  });
});

describe('overlap', () => {
  test.each([
    ['10.0.0.0/8', '10.1.0.0/16', true],
    ['10.1.0.0/16', '10.0.0.0/8', true],
    ['10.1.0.0/16', '10.2.0.0/16', false],
    ['10.1.0.0/16', '10.1.255.255', true],
    ['0.0.0.0/0', '10.1.0.0/16', true],
    ['10.1.0.0/16', 'default', false],
    ['10.1.0.0/16', 'fe80::/64', false],
  ])('of %s and %s is %s', (a, b, expected) => {
    expect(overlaps(a, b)).toBe(expected);
  });
});
