import { describe, expect, test } from '@jest/globals';

import { matches, type Policy, type PolicyPod, type PolicyWorld, renderRules } from './rules.ts';

const podCidr = '10.176.0.0/24';

function aPod(name: string, ip: string, change: Partial<PolicyPod> = {}): PolicyPod {
  return {
    namespace: 'ns',
    name,
    labels: { app: name },
    ip,
    ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
    ...change,
  };
}

const web = aPod('web', '10.176.0.2');
const near = aPod('near', '10.176.0.3');
const far = aPod('far', '10.176.1.4');
const stranger = aPod('stranger', '10.176.1.5', { namespace: 'other' });

function aWorld(...policies: Omit<Policy, 'namespace'>[]): PolicyWorld {
  return {
    pods: [web, near, far, stranger],
    namespaces: new Map([
      ['ns', { team: 'own' }],
      ['other', { team: 'other' }],
    ]),
    policies: policies.map((policy) => ({ ...policy, namespace: 'ns' })),
  };
}

/** The rules of one chain, without the braces. */
function chain(rules: string, name: string): string[] | undefined {
  const [, body] = new RegExp(`chain ${name} \\{\\n([^}]*(?:\\{[^}]*\\}[^}]*)*?)\\n  \\}`).exec(rules) ?? [];
  return body?.split('\n').map((line) => line.trim());
}

const webOnly = { podSelector: { matchLabels: { app: 'web' } } };

describe('the rules of a node', () => {
  test('replace those before in one step', () => {
    expect(renderRules(aWorld(), podCidr)).toMatch(
      /^table ip xtreemos-policy\ndelete table ip xtreemos-policy\ntable ip xtreemos-policy \{/,
    );
  });

  test('let only known pods of the node send and receive', () => {
    const rules = renderRules(aWorld(), podCidr);
    expect(rules).toContain('elements = { 10.176.0.2, 10.176.0.3 }');
    expect(chain(rules, 'forward')).toEqual([
      'type filter hook forward priority filter; policy accept;',
      'ct state established,related accept',
      'ip saddr 10.176.0.0/24 ip saddr != @known drop',
      'ip daddr 10.176.0.0/24 ip daddr != @known drop',
      'ip saddr . ip daddr @itself accept',
    ]);
  });

  test('without any pod, keep every address of the node closed', () => {
    const rules = renderRules({ pods: [], namespaces: new Map(), policies: [] }, podCidr);
    expect(rules).toContain('set known {\n    type ipv4_addr\n  }');
    expect(rules).toContain('ip saddr != @known drop');
  });

  test('leave a pod that no policy selects alone', () => {
    expect(chain(renderRules(aWorld(webOnly), podCidr), 'ingress_10_176_0_3')).toBeUndefined();
  });

  test('send a selected pod through its own chain, which ends in drop', () => {
    const rules = renderRules(aWorld({ ...webOnly, policyTypes: ['Ingress', 'Egress'] }), podCidr);
    expect(chain(rules, 'ingress_10_176_0_2')).toEqual(['drop']);
    expect(chain(rules, 'forward')?.slice(-2)).toEqual([
      'ip saddr vmap { 10.176.0.2 : jump egress_10_176_0_2 }',
      'ip daddr vmap { 10.176.0.2 : jump ingress_10_176_0_2 }',
    ]);
    // Egress holds for the way to the node itself too, ingress from it doesn't: probes come from there.
    expect(chain(rules, 'input')?.slice(-1)).toEqual(['ip saddr vmap { 10.176.0.2 : jump egress_10_176_0_2 }']);
  });

  test.each<[string, Omit<Policy, 'namespace'>, string[]]>([
    ['everybody, by an empty rule', { ingress: [{}] }, ['return']],
    ['everybody at a port', { ingress: [{ ports: [{ port: 80 }] }] }, ['tcp dport 80 return']],
    ['a range of UDP ports', { ingress: [{ ports: [{ protocol: 'UDP', port: 10, endPort: 20 }] }] }, ['udp dport 10-20 return']],
    ['a protocol', { ingress: [{ ports: [{ protocol: 'SCTP' }] }] }, ['meta l4proto sctp return']],
    ['a named port of its own', { ingress: [{ ports: [{ port: 'http' }] }] }, ['tcp dport 8080 return']],
    ['nobody at a name it has no port for', { ingress: [{ ports: [{ port: 'nope' }] }] }, []],
    ['pods of its namespace', { ingress: [{ from: [{ podSelector: {} }] }] }, [
      'ip saddr { 10.176.0.2, 10.176.0.3, 10.176.1.4 } return',
    ]],
    ['pods of other namespaces', { ingress: [{ from: [{ namespaceSelector: { matchLabels: { team: 'other' } } }] }] }, [
      'ip saddr { 10.176.1.5 } return',
    ]],
    ['nobody, when a selector finds nobody', { ingress: [{ from: [{ podSelector: { matchLabels: { app: 'x' } } }] }] }, []],
    ['a block with exceptions', { ingress: [{ from: [{ ipBlock: { cidr: '10.0.0.0/8', except: ['10.1.0.0/16', '10.2.0.0/16'] } }] }] }, [
      'ip saddr 10.0.0.0/8 ip saddr != 10.1.0.0/16 ip saddr != 10.2.0.0/16 return',
    ]],
    ['no IPv6 block, as there is no IPv6', { ingress: [{ from: [{ ipBlock: { cidr: '::/0' } }] }] }, []],
    ['the sum of its rules', { ingress: [{ ports: [{ port: 1 }] }, { ports: [{ port: 2 }] }] }, [
      'tcp dport 1 return', 'tcp dport 2 return',
    ]],
  ])('let in %s', (_what, policy, expected) => {
    const rules = renderRules(aWorld({ ...webOnly, policyTypes: ['Ingress'], ...policy }), podCidr);
    expect(chain(rules, 'ingress_10_176_0_2')).toEqual([...expected, 'drop']);
  }); // prettier-ignore

  test('let out to named ports of each receiver', () => {
    const receiver = aPod('far', '10.176.1.4', { ports: [{ name: 'http', protocol: 'TCP', port: 9999 }] });
    const world = aWorld({
      ...webOnly,
      policyTypes: ['Egress'],
      egress: [{ to: [{ podSelector: {} }], ports: [{ port: 'http' }] }],
    });
    const rules = renderRules({ ...world, pods: [web, receiver] }, podCidr);
    expect(chain(rules, 'egress_10_176_0_2')).toEqual([
      'ip daddr 10.176.0.2 tcp dport 8080 return',
      'ip daddr 10.176.1.4 tcp dport 9999 return',
      'drop',
    ]);
  });

  test('without policyTypes, hold for ingress, and for egress when there are egress rules', () => {
    expect(chain(renderRules(aWorld(webOnly), podCidr), 'egress_10_176_0_2')).toBeUndefined();
    expect(chain(renderRules(aWorld({ ...webOnly, egress: [] }), podCidr), 'egress_10_176_0_2')).toEqual(['drop']);
  });

  test('of a policy in another namespace, do not hold', () => {
    const world = aWorld();
    const elsewhere = { ...world, policies: [{ namespace: 'other', podSelector: {} }] };
    expect(chain(renderRules(elsewhere, podCidr), 'ingress_10_176_0_2')).toBeUndefined();
  });
});

describe('a label selector', () => {
  const labels = { app: 'web', tier: 'front' };
  test.each([
    ['is empty', {}, true],
    ['names a label', { matchLabels: { app: 'web' } }, true],
    ['names another value', { matchLabels: { app: 'db' } }, false],
    ['asks for one of several', { matchExpressions: [{ key: 'app', operator: 'In', values: ['db', 'web'] }] }, true],
    ['asks for none of several', { matchExpressions: [{ key: 'app', operator: 'NotIn', values: ['web'] }] }, false],
    [
      'asks for none of several of a missing label',
      { matchExpressions: [{ key: 'x', operator: 'NotIn', values: ['y'] }] },
      true,
    ],
    ['asks for a label', { matchExpressions: [{ key: 'tier', operator: 'Exists' }] }, true],
    ['asks that a label be missing', { matchExpressions: [{ key: 'tier', operator: 'DoesNotExist' }] }, false],
    ['has an operator from the future', { matchExpressions: [{ key: 'tier', operator: 'Gt' }] }, false],
  ])('that %s: %j is %s', (_what, selector, expected) => {
    expect(matches(selector, labels)).toBe(expected);
  });
});
