import { execFileSync } from 'node:child_process';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';

import { openSites, type TestSite } from '#sites/harness.ts';
import { aPod, withNamespace } from '#sites/testing.ts';

import { nodeJobRecipe, productImage, productRecipe, projectDir } from '../../../hack/images/recipes.ts';

jest.setTimeout(180_000);

const namespace = 'suite-images';
let site: TestSite;
let removeNamespace: () => Promise<void>;

beforeAll(async () => {
  execFileSync(process.execPath, [join(projectDir, 'hack/bundle.ts')], { cwd: projectDir });
  site = (await openSites()).sites[0]!;
  removeNamespace = await withNamespace(site, namespace, { 'pod-security.kubernetes.io/enforce': 'restricted' });
  await site.loadRecipes([productRecipe(), nodeJobRecipe()]);
});

afterAll(async () => removeNamespace());

/** Runs a pod to its end. @returns what it printed. */
async function runPod(name: string, image: string, container: object): Promise<string> {
  const pod = aPod({ name, namespace, image }) as { spec: { containers: object[]; securityContext: object } };
  const [main] = pod.spec.containers;
  const rest = { ...main, command: undefined };
  const securityContext = { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } };
  const spec = { ...pod.spec, securityContext, restartPolicy: 'Never', containers: [{ ...rest, ...container }] };
  await site.apply([{ ...pod, spec }]);
  const phase = '--for=jsonpath={.status.phase}=Succeeded';
  await site.kubectl(['wait', phase, `pod/${name}`, '-n', namespace, '--timeout=60s'], { timeoutMs: 70_000 });
  return site.kubectl(['logs', '-n', namespace, name]);
}

describe('images made without a registry', () => {
  test('run a program of ours by its name, as the image says: not as root', async () => {
    expect(await runPod('operator', productImage(), { args: ['operator', '--help'] })).toMatch(/--/);
    const script = 'console.log(JSON.stringify([process.getuid(), process.getgid()]))';
    const ids = await runPod('ids', productImage(), { command: ['/usr/local/bin/node', '-e', script] });
    expect(ids).toBe('[65532,65532]\n');
  });

  test('load the native part of the store', async () => {
    const script =
      "import('lmdb').then(({ open }) => { const db = open({ path: '/tmp/db' }); db.putSync('k', 'v'); console.log(db.get('k')); })";
    expect(await runPod('lmdb', productImage(), { command: ['/usr/local/bin/node', '-e', script] })).toBe('v\n');
  });

  test('of the product hold no shell', async () => {
    const script =
      "console.log(['/bin/sh', '/bin/bash', '/bin/busybox'].some((path) => require('fs').existsSync(path)))";
    expect(await runPod('shell', productImage(), { command: ['/usr/local/bin/node', '-e', script] })).toBe('false\n');
  });

  test('run jobs in Node.js, with a shell, as any user', async () => {
    const command = ['/bin/sh', '-c', 'node -p "process.version + process.getuid()"'];
    const output = await runPod('job', 'xtreemos.io/node-job:1', { command, securityContext: {
      runAsUser: 2013265921, allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] },
    } }); // prettier-ignore
    expect(output).toBe(`${process.version}2013265921\n`);
  });
});
