/** Builders of small workloads for end-to-end suites. */
import type { KubeObject } from './kube-client.ts';
import type { TestSite } from './harness.ts';

/** A shell pod that sleeps until told otherwise. Passes Pod Security `restricted`. */
export interface PodOptions {
  readonly name: string;
  readonly namespace: string;
  /** Node to run on; the scheduler chooses when absent. */
  readonly node?: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** Shell script to run; a server that answers HTTP on port 8080 with the pod's name by default. */
  readonly script?: string;
  readonly image?: string;
}

const serve = 'mkdir -p /tmp/www; hostname > /tmp/www/index.html; exec busybox httpd -f -p 8080 -h /tmp/www';

/** Builds a pod; see `PodOptions`. */
export function aPod({ name, namespace, node, labels, script, image }: PodOptions): KubeObject {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace, labels: { app: name, ...labels } },
    spec: {
      // Not spec.nodeName: the scheduler is part of what is tested.
      ...(node === undefined ? {} : { nodeSelector: { 'kubernetes.io/hostname': node } }),
      terminationGracePeriodSeconds: 0,
      automountServiceAccountToken: false,
      securityContext: { runAsNonRoot: true, runAsUser: 1000, seccompProfile: { type: 'RuntimeDefault' } },
      containers: [
        {
          name: 'main',
          image: image ?? 'xtreemos.io/busybox:1',
          imagePullPolicy: 'Never',
          command: ['/bin/sh', '-c', script ?? serve],
          ports: [{ name: 'http', containerPort: 8080 }],
          securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
        },
      ],
    },
  };
}

/** Makes a namespace with labels, and returns what removes it. */
export async function withNamespace(
  site: TestSite,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): Promise<() => Promise<void>> {
  await site.apply([{ apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } }]);
  // The namespace's default service account is made a moment later, and pods need it.
  await site.kubectl(['wait', '--for=create', 'serviceaccount/default', '-n', name, '--timeout=30s']);
  return async () => {
    await site.kubectl(['delete', 'namespace', name, '--wait=false']);
  };
}

/** Waits until pods are Ready. */
export async function waitPods(site: TestSite, namespace: string, ...names: string[]): Promise<void> {
  const pods = names.map((name) => `pod/${name}`);
  await site.kubectl(['wait', '--for=condition=Ready', '-n', namespace, '--timeout=90s', ...pods], {
    timeoutMs: 100_000,
  });
}

/** Address of a pod. */
export async function podAddress(site: TestSite, namespace: string, name: string): Promise<string> {
  const pod = await site.get<{ status: { podIP?: string } }>('pod', name, '-n', namespace);
  return pod.status.podIP ?? '';
}

/** Whether a pod gets an HTTP answer from an address and port within two seconds. */
export async function canReach(site: TestSite, namespace: string, pod: string, url: string): Promise<boolean> {
  // Not wget -T: Debian 12's static busybox crashes on it.
  const { status } = await site.exec(namespace, pod, `timeout 2 wget -q -O /dev/null http://${url}/`);
  return status === 0;
}
