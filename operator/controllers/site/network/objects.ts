/** The pods and the policy that show whether NetworkPolicy is enforced: pure, with names that do not change. */
import { apiVersionOf } from '#runtime/kind.ts';
import { type NetworkPolicy, type Pod, pods } from '#runtime/builtin.ts';
import type { Stored } from '#runtime/types.ts';

/** Who takes part in the test. */
export type Part = 'listener' | 'caller';

/** What the pods need besides their parts. */
export interface ProbeTerms {
  /** Namespace of the operator. */
  readonly namespace: string;
  /** Image of the product. */
  readonly image: string;
  /** Pod of the operator itself: with it go the objects, whenever it goes. Undefined where it runs in none. */
  readonly self: Stored<Pod> | undefined;
}

/** One thing that the caller sees after another; each is a container that ends once it has seen it. */
export interface Step {
  /** Name of the container. */
  readonly name: string;
  readonly expects: 'reached' | 'blocked';
  /** For whom everything is denied meanwhile. */
  readonly denied?: Part;
}

/**
 * A way counts as closed by a policy only when it was open before and is open again afterwards: otherwise it may be broken. Both ends are
 * tried, as the namespace of a virtual organization is closed both ways.
 */
export const steps: readonly Step[] = [
  { name: 'open', expects: 'reached' },
  { name: 'listener-denied', expects: 'blocked', denied: 'listener' },
  { name: 'open-again', expects: 'reached' },
  { name: 'caller-denied', expects: 'blocked', denied: 'caller' },
  { name: 'open-at-last', expects: 'reached' },
];

/** How long the caller waits for each step, milliseconds. Policies take effect some time after they are written: in seconds where they are. */
export const stepLimitMs = 45_000;

/** Label of the pods; its value is their part. */
const probeLabel = 'xtreemos.io/network-probe';
/** Name of the policy. */
export const policyName = 'xtreemos-network-probe';
const port = 8080;
/** The kubelet ends what an operator has left behind that can't come back to it. */
const lifeSeconds = 600;

/** Name of a pod of the test. */
export function podName(part: Part): string {
  return `xtreemos-network-probe-${part}`;
}

/** Waits for the caller. */
export function listenerPod(terms: ProbeTerms): Pod {
  return probePod(terms, 'listener', {
    containers: [container(terms, 'listener', ['listen', `--port=${port}`])],
  });
}

/** Goes through the {@link steps}. @param host - address of the listener. */
export function callerPod(terms: ProbeTerms, host: string): Pod {
  const all = steps.map(({ name, expects }) =>
    container(terms, name, [expects, `--host=${host}`, `--port=${port}`, `--limit-ms=${stepLimitMs}`]),
  );
  return probePod(terms, 'caller', { initContainers: all.slice(0, -1), containers: all.slice(-1) });
}

/** Denies one of them everything both ways, as `default-deny` does in the namespace of a virtual organization. */
export function denyingPolicy(terms: ProbeTerms, denied: Part): NetworkPolicy & { metadata: { name: string } } {
  return {
    metadata: { name: policyName, ...common(terms) },
    spec: { podSelector: { matchLabels: { [probeLabel]: denied } }, policyTypes: ['Ingress', 'Egress'] },
  };
}

type PodSpec = NonNullable<Pod['spec']>;
type Container = PodSpec['containers'][number];

function common({ namespace, self }: ProbeTerms): Pick<Pod['metadata'], 'namespace' | 'ownerReferences'> {
  if (self === undefined) return { namespace };
  const { name, uid } = self.metadata;
  return { namespace, ownerReferences: [{ apiVersion: apiVersionOf(pods), kind: pods.kind, name, uid }] };
}

/** Meets Pod Security `restricted`; bears no label that another policy of the product selects. */
function probePod(terms: ProbeTerms, part: Part, containers: Pick<PodSpec, 'initContainers' | 'containers'>): Pod {
  const imagePullSecrets = terms.self?.spec?.imagePullSecrets;
  return {
    metadata: {
      name: podName(part),
      labels: { [probeLabel]: part, 'app.kubernetes.io/part-of': 'xtreemos' },
      ...common(terms),
    },
    spec: {
      ...containers,
      ...(imagePullSecrets === undefined ? {} : { imagePullSecrets }),
      restartPolicy: 'Never',
      activeDeadlineSeconds: lifeSeconds,
      terminationGracePeriodSeconds: 1,
      enableServiceLinks: false,
      automountServiceAccountToken: false,
      securityContext: {
        ...{ runAsNonRoot: true, runAsUser: 65_532, runAsGroup: 65_532 },
        seccompProfile: { type: 'RuntimeDefault' },
      },
    },
  };
}

function container({ image, self }: ProbeTerms, name: string, args: readonly string[]): Container {
  const imagePullPolicy = self?.spec?.containers.find((each) => each.image === image)?.imagePullPolicy;
  return {
    name,
    image,
    ...(imagePullPolicy === undefined ? {} : { imagePullPolicy }),
    args: ['network-probe', ...args],
    resources: { requests: { cpu: '10m', memory: '32Mi' }, limits: { memory: '128Mi' } },
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    },
  };
}
