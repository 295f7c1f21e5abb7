import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { applyObjects, renderCertManager } from '#sites/addons.ts';
import { type KubeClient, waitFor } from '#sites/kube-client.ts';
import { ensureTools } from '#sites/tools.ts';

/** cert-manager's real controller as a process of its own. */
export interface RunningCertManager {
  stop(): Promise<void>;
}

/** Installs cert-manager's kinds and runs its controller against an API server without nodes; it ends with the process that called this. */
export async function startCertManager(client: KubeClient, kubeconfig: string): Promise<RunningCertManager> {
  const tools = await ensureTools(['helm', 'cert-manager-chart', 'cert-manager-crds', 'cert-manager-controller']);
  const objects = await renderCertManager(tools);
  await applyObjects(
    client,
    objects.filter(({ kind }) => kind === 'CustomResourceDefinition' || kind === 'Namespace'),
  );
  for (const plural of ['certificates', 'issuers', 'certificaterequests']) {
    await waitFor(`${plural} are served`, async () => client.list(`/apis/cert-manager.io/v1/${plural}`));
  }
  const flags = [`--kubeconfig=${kubeconfig}`, '--leader-elect=false', '--metrics-listen-address=127.0.0.1:0'];
  const what = ['--controllers=*,-orders,-challenges', '--namespace='];
  const command = [tools.path('cert-manager-controller'), ...flags, ...what];
  const child = spawn('/usr/bin/setpriv', ['--pdeathsig', 'KILL', '--', ...command], { stdio: 'ignore' });
  return {
    stop: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGKILL');
      await once(child, 'exit');
    },
  };
}

/** Has cert-manager issue a certificate anew, as `cmctl renew` does. */
export async function renewCertificate(client: KubeClient, namespace: string, name: string): Promise<void> {
  const path = `/apis/cert-manager.io/v1/namespaces/${namespace}/certificates/${name}/status`;
  const lastTransitionTime = new Date().toISOString();
  const issuing = { type: 'Issuing', status: 'True', reason: 'Test', message: 'Renew', lastTransitionTime };
  const { status } = await client.json('GET', path);
  const conditions = [...((status?.conditions ?? []) as object[]), issuing];
  await client.json('PATCH', path, { body: { status: { conditions } }, contentType: 'application/merge-patch+json' });
}
