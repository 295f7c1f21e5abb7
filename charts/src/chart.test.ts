import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from '@jest/globals';
import YAML from 'yaml';
import { allTemplates, chartFiles } from './files.ts';
import { block, plain, renderTemplate, text } from './helm.ts';
import { organizationRoleNames } from './organizations.ts';
import { isKnownValue, valuesSchema, valuesYaml } from './values.ts';

describe('renderTemplate', () => {
  test('puts expressions in their places', () => {
    const object = {
      metadata: { name: text('.Release.Name'), annotations: block('.Values.a') },
      spec: {
        replicas: plain('.Values.n'),
        args: ['x', text('printf "--a=%s" .Values.b')],
        list: [{ env: block('.Values.c') }],
      },
    };
    expect(renderTemplate(object)).toBe(
      [
        'metadata:',
        '  name: {{ .Release.Name | quote }}',
        '  annotations: {{- toYaml (.Values.a) | nindent 4 }}',
        'spec:',
        '  replicas: {{ .Values.n }}',
        '  args:',
        '    - x',
        '    - {{ printf "--a=%s" .Values.b | quote }}',
        '  list:',
        '    - env: {{- toYaml (.Values.c) | nindent 8 }}',
        '',
      ].join('\n'),
    );
  });

  test('puts a condition around the whole object', () => {
    expect(renderTemplate({ a: 1 }, '.Values.on')).toBe('{{- if .Values.on }}\na: 1\n{{- end }}\n');
  });

  test('refuses an expression inside a text, which could not be quoted rightly', () => {
    expect(() => renderTemplate({ a: `x-${text('.Values.b')}` })).toThrow('join with printf');
  });

  test('refuses braces that Helm would take for its own', () => {
    expect(() => renderTemplate({ a: 'see {{ this }}' })).toThrow('braces');
  });
});

const root = path.resolve(import.meta.dirname, '../..');
const { version } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as { version: string };

describe('the chart', () => {
  const files = chartFiles(version, []);
  const templates = [...files].filter(([name]) => name.endsWith('.yaml') && name.startsWith('templates/'));

  test('is what is checked in', () => {
    for (const [name, content] of files) {
      if (!name.startsWith('templates/')) continue;
      expect([name, readFileSync(path.join(root, 'charts/xtreemos', name), 'utf8')]).toEqual([name, content]);
    }
  });

  test('names only values that exist', () => {
    const used = [...files.values()].flatMap((content) => content.match(/\.Values\.[A-Za-z.]+/g) ?? []);
    expect(used.length).toBeGreaterThan(10);
    expect(used.filter((expression) => !isKnownValue(expression))).toEqual([]);
  });

  test('uses every value that it offers', () => {
    const text = [...files.values()]
      .filter((_, index) => [...files.keys()][index]?.startsWith('templates/'))
      .join('\n');
    const leaves = leavesOf(valuesSchema.shape, '.Values').filter((leaf) => leaf !== '.Values.global');
    expect(leaves.filter((leaf) => !text.includes(leaf) && !text.includes(leaf.replace(/\.[^.]+$/, ')')))).toEqual([]);
  });

  test('has a template for each kind, which helm uninstall keeps', () => {
    const [, crd = ''] = templates.find(([name]) => name === 'templates/crd-sites.yaml') ?? [];
    expect(crd).toContain('ternary (dict "helm.sh/resource-policy" "keep") (dict) .Values.crds.keep');
  });

  test('documents every value, and its defaults are valid', () => {
    const yaml = valuesYaml('notice');
    expect(valuesSchema.safeParse(YAML.parse(yaml))).toMatchObject({ success: true });
    const lines = yaml.split('\n');
    const undocumented = lines.filter(
      (line, index) => /^ *[a-zA-Z]+:/.test(line) && !/^ *#/.test(lines[index - 1] ?? ''),
    );
    expect(undocumented).toEqual([]);
  });
});

function leavesOf(shape: Readonly<Record<string, unknown>>, at: string): string[] {
  return Object.entries(shape).flatMap(([name, field]) => {
    const inner = (field as { shape?: Readonly<Record<string, unknown>> }).shape;
    return inner === undefined ? [`${at}.${name}`] : leavesOf(inner, `${at}.${name}`);
  });
}

describe('the rights of our programs (threat 58)', () => {
  interface RoleRule {
    readonly apiGroups?: string[];
    readonly resources?: string[];
    readonly resourceNames?: string[];
    readonly nonResourceURLs?: string[];
    readonly verbs: string[];
  }
  const all = allTemplates()
    .map(({ object }) => object as { kind: string; metadata: { name: string }; rules?: RoleRule[] })
    .filter(({ kind }) => kind === 'Role' || kind === 'ClusterRole');
  const isForPeople = ({ metadata }: { metadata: { name: string } }): boolean =>
    organizationRoleNames.includes(metadata.name);
  const rules = all.filter((role) => !isForPeople(role)).flatMap((role) => role.rules ?? []);
  const rulesForPeople = all.filter(isForPeople).flatMap((role) => role.rules ?? []);

  test('are given by rules without wildcards', () => {
    expect(rules.length).toBeGreaterThan(3);
    for (const rule of rules) {
      const { apiGroups = [], resources = [], nonResourceURLs = [], verbs } = rule;
      expect([...apiGroups, ...resources, ...nonResourceURLs, ...verbs].filter((word) => word.includes('*'))).toEqual(
        [],
      );
    }
  });

  test('do not include those that give other rights', () => {
    const verbs = [...rules, ...rulesForPeople].flatMap((rule) => rule.verbs);
    for (const verb of ['escalate', 'impersonate', 'approve', 'sign']) expect(verbs).not.toContain(verb);
    const resources = rules.flatMap((rule) => rule.resources ?? []);
    for (const resource of ['nodes/proxy', 'pods/exec', 'pods/attach', 'pods/ephemeralcontainers'])
      expect(resources).not.toContain(resource);
  });

  test('reach Secrets in its own namespace at most', () => {
    const everywhere = all.filter(({ kind }) => kind === 'ClusterRole').flatMap((role) => role.rules ?? []);
    for (const rule of everywhere) expect(rule.resources ?? []).not.toContain('secrets');
  });

  test('let it give nobody any role but the three of virtual organizations', () => {
    const binding = rules.filter((rule) => rule.verbs.includes('bind'));
    for (const { resources, verbs } of binding) {
      expect(resources).toEqual(['clusterroles']);
      expect(verbs).toEqual(['bind']);
    }
    // The last one is for the operator itself, in their namespaces.
    expect(binding.flatMap(({ resourceNames = [] }) => resourceNames).sort()).toEqual(
      ['administrator', 'authority', 'member', 'observer'].map((role) => `xtreemos-vo-${role}`),
    );
  });

  test('the roles of people hold no Secret, no right over rights, and no wildcard (threat 56)', () => {
    expect(rulesForPeople.length).toBeGreaterThan(3);
    for (const { apiGroups = [], resources = [], verbs } of rulesForPeople) {
      expect([...apiGroups, ...resources, ...verbs].filter((word) => word.includes('*'))).toEqual([]);
      for (const resource of resources) {
        expect(resource).not.toMatch(/^(secrets|namespaces|nodes|serviceaccounts|virtualorganizations)/);
        if (/^(resourcequotas|limitranges|networkpolicies)$/.test(resource))
          expect(verbs).toEqual(['get', 'list', 'watch']);
      }
      for (const group of ['rbac.authorization.k8s.io', 'admissionregistration.k8s.io'])
        expect(apiGroups).not.toContain(group);
    }
  });

  interface Binding {
    readonly kind: string;
    readonly roleRef?: { readonly name: string };
    readonly subjects?: readonly { readonly kind: string }[];
  }
  const bindings = allTemplates()
    .map(({ object }) => object as Binding)
    .filter(({ roleRef }) => roleRef !== undefined);

  test('are its own: the only thing that others are given is to read where the gateway is', () => {
    const toOthers = bindings.filter(({ subjects = [] }) => subjects.some(({ kind }) => kind !== 'ServiceAccount'));
    expect(toOthers.map(({ kind, roleRef }) => [kind, roleRef?.name.includes('gateway-address-reader')])).toEqual([
      ['RoleBinding', true],
    ]);
  });

  test('to make tokens of accounts are bound nowhere by the chart: the operator has them in namespaces of organizations', () => {
    const withTokens = all.filter(({ rules: own = [] }) =>
      own.some(({ resources = [] }) => resources.includes('serviceaccounts/token')),
    );
    expect(withTokens.map(({ metadata }) => metadata.name)).toEqual(['xtreemos-vo-authority']);
    expect(bindings.map(({ roleRef }) => roleRef?.name)).not.toContain('xtreemos-vo-authority');
  });
});

test.each(['operator-deployment', 'selector-daemonset'])(
  'the pods of %s meet Pod Security "restricted" and mount nothing writable',
  (id) => {
    const { object } = allTemplates().find(({ name }) => name === id)!;
    const { spec } = (object as { spec: { template: { spec: PodSpec } } }).spec.template;
    expect(spec).toMatchObject({
      automountServiceAccountToken: false,
      // Variables of services would be taken for options (XTREEMOS_METRICS_PORT).
      enableServiceLinks: false,
      securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
    });
    for (const { securityContext, volumeMounts } of spec.containers) {
      expect(securityContext).toEqual({
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      });
      expect(volumeMounts.filter(({ readOnly }) => !readOnly)).toEqual([]);
    }
    for (const field of ['hostNetwork', 'hostPID', 'hostIPC']) expect(spec).not.toHaveProperty(field);
  },
);

interface PodSpec {
  readonly containers: readonly {
    readonly securityContext: object;
    readonly volumeMounts: readonly { readonly readOnly?: boolean }[];
  }[];
}

test('beside the operator runs a selector that offers nothing and has no account', () => {
  const { object } = allTemplates().find(({ name }) => name === 'operator-deployment')!;
  const { containers } = (object as { spec: { template: { spec: { containers: SidecarView[] } } } }).spec.template.spec;
  const sidecar = containers.find(({ name }) => name === 'selector')!;
  expect(sidecar.args).toContain('--no-offers');
  expect(sidecar.args).not.toContain('--kubernetes');
  expect(sidecar.volumeMounts.map(({ name }) => name)).not.toContain('token');
});

interface SidecarView {
  readonly name: string;
  readonly args: readonly string[];
  readonly volumeMounts: readonly { readonly name: string }[];
}
