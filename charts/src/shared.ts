/** What the templates of all programs share. */
import { ApiObject, App, Chart } from 'cdk8s';
import { flagOf } from '#common/options.ts';
import { block, text } from './helm.ts';

/** One template of the chart. */
export interface Template {
  /** Name of the file, without its ending. */
  readonly name: string;
  readonly object: unknown;
  /** Helm expression; the object is there only when it is true. */
  readonly condition?: string;
}

/** An object without what every object has. */
export type Fields = Record<string, unknown> & { readonly metadata?: Readonly<Record<string, unknown>> };

/** Adds one template; `condition` is a Helm expression. */
export type Add = (id: string, apiVersion: string, kind: string, fields: Fields, condition?: string) => void;

/** Helm expressions that name things. */
export const fullname = text('include "xtreemos.fullname" .');
/** Namespace of the release. */
export const namespace = text('.Release.Namespace');

/** A name that begins with the release's: `xtreemos-selector`. */
export function named(suffix: string): string {
  return text(`printf "%s-${suffix}" (include "xtreemos.fullname" .)`);
}

/** Labels that select the pods of one program. */
export function selectorOf(component: string): Record<string, string> {
  return {
    'app.kubernetes.io/name': 'xtreemos',
    'app.kubernetes.io/instance': text('.Release.Name'),
    'app.kubernetes.io/component': component,
  };
}

/** Makes templates of what `build` adds. */
export function templatesOf(component: string, build: (add: Add) => void): Template[] {
  const labels = {
    ...selectorOf(component),
    'app.kubernetes.io/part-of': 'xtreemos',
    'app.kubernetes.io/version': text('.Chart.AppVersion'),
    'app.kubernetes.io/managed-by': text('.Release.Service'),
    'helm.sh/chart': text('printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_")'),
  };
  const chart = new Chart(new App(), component, { labels, disableResourceNameHashes: true });
  const conditions = new Map<string, string>();
  build((id, apiVersion, kind, { metadata, ...rest }, condition) => {
    new ApiObject(chart, id, { apiVersion, kind, metadata: { name: fullname, ...metadata }, ...rest });
    if (condition !== undefined) conditions.set(id, condition);
  });
  return chart.node.children
    .filter((child) => ApiObject.isApiObject(child))
    .map((object) => {
      const condition = conditions.get(object.node.id);
      const template = { name: object.node.id, object: object.toJson() as unknown };
      return condition === undefined ? template : { ...template, condition };
    });
}

/** A flag whose value comes from the chart, for example `--site=rennes`. @param option - its name in the program's options. */
export function argument(option: string, expression: string, format = '%s'): string {
  return text(`printf "--${flagOf(option)}=${format}" (${expression})`);
}

/** A probe of one path of a health server. @param port - name of the container's port. */
export function httpProbe(path: string, port: string, failureThreshold: number): object {
  return { httpGet: { path, port }, periodSeconds: 5, timeoutSeconds: 5, failureThreshold };
}

/** Where the token of the pod's account lies. */
export const tokenPath = '/var/run/secrets/kubernetes.io/serviceaccount';

/** As the kubelet mounts it, but with a life of one hour that the API server doesn't stretch (it stretches 3607 s only). */
export const tokenSources = [
  { serviceAccountToken: { path: 'token', expirationSeconds: 3600 } },
  { configMap: { name: 'kube-root-ca.crt', items: [{ key: 'ca.crt', path: 'ca.crt' }] } },
  { downwardAPI: { items: [{ path: 'namespace', fieldRef: { fieldPath: 'metadata.namespace' } }] } },
];

/** No shell, no writable file, no right of the kernel. */
export const containerSecurity = {
  allowPrivilegeEscalation: false,
  readOnlyRootFilesystem: true,
  capabilities: { drop: ['ALL'] },
};

/** Of every pod of ours: meets Pod Security `restricted`, and gets its token only by a mount that says so. */
export const podDefaults = {
  // Otherwise a Service called xtreemos-metrics sets XTREEMOS_METRICS_PORT to an address.
  enableServiceLinks: false,
  automountServiceAccountToken: false,
  priorityClassName: text('include "xtreemos.priorityClassName" .'),
  imagePullSecrets: block('.Values.imagePullSecrets'),
  securityContext: {
    runAsNonRoot: true,
    runAsUser: 65_532,
    runAsGroup: 65_532,
    fsGroup: 65_532,
    seccompProfile: { type: 'RuntimeDefault' },
  },
};

/** Lets pods ask the cluster's DNS, whose pods listen on 53 or, without the right to that port, on 5353. */
export const dnsPorts = [53, 5353].flatMap((port) => ['UDP', 'TCP'].map((protocol) => ({ port, protocol })));

/** Whose account a program has, and what it may do in the whole cluster. */
export interface ProgramAccount {
  readonly name: string;
  readonly rules: readonly object[];
  /** Helm expression; it is there only when that is true. */
  readonly condition?: string;
}

/** The account of a program, without a token in pods that do not ask for one. @param id - begins the names of the templates. */
export function addAccount(add: Add, id: string, { name, rules, condition }: ProgramAccount): void {
  const metadata = { name, namespace };
  const rbac = 'rbac.authorization.k8s.io';
  const binding = {
    metadata: { name },
    roleRef: { apiGroup: rbac, kind: 'ClusterRole', name },
    subjects: [{ kind: 'ServiceAccount', ...metadata }],
  };
  add(`${id}-serviceaccount`, 'v1', 'ServiceAccount', { metadata, automountServiceAccountToken: false }, condition);
  add(`${id}-clusterrole`, `${rbac}/v1`, 'ClusterRole', { metadata: { name }, rules }, condition);
  add(`${id}-clusterrolebinding`, `${rbac}/v1`, 'ClusterRoleBinding', binding, condition);
}
