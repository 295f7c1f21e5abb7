/** The chart on a control plane without nodes, and the rights that it gives to the operator. For tests. */
import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import type { AloneControlPlane } from '#sites/control-plane.ts';
import type { KubeClient } from '#sites/kube-client.ts';
import { ensureTools } from '#sites/tools.ts';
import YAML from 'yaml';

const run = promisify(execFile);

/** Where the chart is installed. */
export const operatorNamespace = 'xtreemos-system';

/**
 * Installs the chart and gives a kubeconfig with a token of the account that it made for the operator. No cert-manager runs here.
 * @param scratch - folder for what this writes.
 * @param settings - further values, `key=value`.
 */
export async function installChart(
  plane: AloneControlPlane,
  client: KubeClient,
  scratch: string,
  ...settings: readonly string[]
): Promise<string> {
  const helm = (await ensureTools(['helm'])).path('helm');
  const chart = path.resolve(import.meta.dirname, '../../charts/xtreemos');
  const home = path.join(scratch, 'helm');
  mkdirSync(home);
  const values = ['--set', ['certificates.create=false', ...settings].join(',')];
  await run(helm, ['install', 'xtreemos', chart, '--namespace', operatorNamespace, '--create-namespace', ...values], {
    env: { ...process.env, KUBECONFIG: plane.kubeconfigPath, HOME: home, XDG_CACHE_HOME: home, XDG_DATA_HOME: home },
  });
  const token = `/api/v1/namespaces/${operatorNamespace}/serviceaccounts/xtreemos/token`;
  const body = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: {} };
  const answer = await client.json('POST', token, { body });
  const config = YAML.parse(readFileSync(plane.kubeconfigPath, 'utf8')) as { users: { user: unknown }[] };
  for (const user of config.users) user.user = { token: (answer.status as { token: string }).token };
  const file = path.join(scratch, 'operator.kubeconfig');
  writeFileSync(file, YAML.stringify(config), { mode: 0o600 });
  return file;
}
