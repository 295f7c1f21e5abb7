/** The chart on a control plane without nodes, and the rights that it gives to the operator. For tests. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { AloneControlPlane } from '#sites/control-plane.ts';
import { runHelm } from '#sites/helm.ts';
import { type KubeClient, waitFor } from '#sites/kube-client.ts';
import YAML from 'yaml';

/** Where the chart is installed. */
export const operatorNamespace = 'xtreemos-system';

/**
 * Installs the chart, waits until objects of its kinds can be made, and gives a kubeconfig with a token of the account that it made for the
 * operator. No cert-manager is asked for anything.
 * @param scratch - folder for what this writes.
 * @param settings - further values, `key=value`.
 */
export async function installChart(
  plane: AloneControlPlane,
  client: KubeClient,
  scratch: string,
  ...settings: readonly string[]
): Promise<string> {
  const chart = path.resolve(import.meta.dirname, '../../charts/xtreemos');
  const values = ['--set', ['certificates.create=false', ...settings].join(',')];
  await runHelm(['install', 'xtreemos', chart, '--namespace', operatorNamespace, '--create-namespace', ...values], {
    kubeconfig: plane.kubeconfigPath,
    home: path.join(scratch, 'helm'),
  });
  // Until the API server knows the new kinds it answers 503 where a policy fills in.
  const tried = { metadata: { name: 'tried' }, spec: { type: 'Local', local: {} } };
  await waitFor('a Site can be made', async () =>
    client.json('POST', '/apis/xtreemos.io/v1alpha1/sites?dryRun=All', {
      body: { apiVersion: 'xtreemos.io/v1alpha1', kind: 'Site', ...tried },
    }),
  );
  const token = `/api/v1/namespaces/${operatorNamespace}/serviceaccounts/xtreemos/token`;
  const body = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: {} };
  const answer = await client.json('POST', token, { body });
  const config = YAML.parse(readFileSync(plane.kubeconfigPath, 'utf8')) as { users: { user: unknown }[] };
  for (const user of config.users) user.user = { token: (answer.status as { token: string }).token };
  const file = path.join(scratch, 'operator.kubeconfig');
  writeFileSync(file, YAML.stringify(config), { mode: 0o600 });
  return file;
}
