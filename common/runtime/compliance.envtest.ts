/**
 * What the runtime promises, against a real kube-apiserver and etcd. XTREEMOS_ENVTEST_SCALE (default 1) multiplies the
 * time of churn: 20 makes it a soak of about half an hour.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type AloneControlPlane, startControlPlane } from '#sites/control-plane.ts';
import { systemClock } from '#common/clock.ts';
import { SeededRandom } from '#common/random.ts';
import { leases, namespaces } from './builtin.ts';
import { createClient } from './client.ts';
import type { Client } from './contracts.ts';
import { kubeConfigCredentials } from './credentials.ts';
import { Auditor, Churn } from './testing/auditor.ts';
import { CuttableProxy } from './testing/cuttable-proxy.ts';
import { testParts } from './testing/parts.ts';
import { HttpTransport } from './transport.ts';

const scale = Number(process.env.XTREEMOS_ENVTEST_SCALE ?? 1);
const objects = 10_000;
const namespace = 'churn';
const settleMs = 60_000;
const minutes = 60_000;

let plane: AloneControlPlane;
let transport: HttpTransport;
let client: Client;
let proxy: CuttableProxy;
let audited: HttpTransport;
let auditor: Auditor;
let churn: Churn;

function aTransport(credentials = kubeConfigCredentials({ file: plane.kubeconfigPath })): HttpTransport {
  return new HttpTransport({ ...testParts(systemClock), credentials, throttle: { qps: Infinity } });
}

beforeAll(async () => {
  plane = await startControlPlane({ dir: mkdtempSync(path.join(tmpdir(), 'xtreemos-runtime-')), name: 'runtime' });
  transport = aTransport();
  client = createClient(transport, { fieldManager: 'test' });
  await client.of(namespaces).apply({ metadata: { name: namespace } });
  proxy = await new CuttableProxy(plane.server).start();
  audited = aTransport(proxy.through(kubeConfigCredentials({ file: plane.kubeconfigPath })));
  auditor = new Auditor(audited, namespace, systemClock);
  churn = new Churn(client, namespace, objects, new SeededRandom(20_26));
  auditor.start();
  await churn.fill(32);
}, 3 * minutes);

afterAll(async () => {
  await churn.stop();
  await auditor.stop();
  await audited.close();
  await transport.close();
  await proxy.stop();
  await plane.stop();
}, minutes);

/** Churns while something happens, then wants every object's last state to be reconciled. */
async function expectNothingMissed(during: () => Promise<void>): Promise<void> {
  churn.start(16);
  try {
    await during();
  } finally {
    await churn.stop();
  }
  expect(await auditor.missed(client, namespace, settleMs)).toEqual([]);
}

describe('ten thousand objects', () => {
  test(
    'churned at random: the last state of every object is reconciled',
    async () => {
      const before = churn.operations;
      await expectNothingMissed(async () => sleep(12_000 * scale));
      expect(churn.operations - before).toBeGreaterThan(500);
      expect(auditor.reconciled.size).toBeGreaterThan(objects / 2);
    },
    2 * minutes + 12_000 * scale,
  );

  test(
    'while the API server is killed and restarted under load',
    async () => {
      const failures = churn.failures;
      await expectNothingMissed(async () => {
        for (let round = 0; round < 2; round++) {
          await sleep(1_500 * scale);
          await plane.killApiServer();
          await sleep(1_000);
          await plane.restartApiServer();
        }
        await sleep(1_000);
      });
      expect(churn.failures).toBeGreaterThan(failures);
    },
    3 * minutes + 3_000 * scale,
  );

  test(
    'while etcd stands still for 20 seconds',
    async () => {
      await expectNothingMissed(async () => {
        await plane.stopEtcd();
        await sleep(20_000);
        await plane.startEtcd();
        await sleep(3_000 * scale);
      });
    },
    3 * minutes + 3_000 * scale,
  );

  test(
    'while compaction makes the version that was watched too old: 410 ends in a new list',
    async () => {
      const expired = await auditor.lists('expired');
      proxy.cut();
      await expectNothingMissed(async () => {
        await sleep(2_000);
        await churn.stop();
        await plane.compact();
        await plane.restartApiServer();
        proxy.heal();
        await sleep(1_000);
      });
      expect(await auditor.lists('expired')).toBeGreaterThan(expired);
    },
    3 * minutes,
  );
});

describe('two candidates', () => {
  const children: ChildProcess[] = [];
  afterAll(() => {
    for (const child of children) child.kill('SIGKILL');
  });

  function candidate(identity: string) {
    const program = fileURLToPath(new URL('./testing/candidate.ts', import.meta.url));
    const args = [program, plane.kubeconfigPath, identity];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    children.push(child);
    const leading = new Promise((resolve) => child.stdout.once('data', resolve));
    const exit = new Promise<number | null>((resolve) => child.once('exit', resolve));
    return { child, leading, exit };
  }

  test(
    'no write of a leader that was frozen arrives after another took the lease',
    async () => {
      const first = candidate('first');
      await first.leading;
      const second = candidate('second');
      await sleep(2_000);
      first.child.kill('SIGSTOP');
      await second.leading;
      await sleep(1_000);
      first.child.kill('SIGCONT');
      expect(await first.exit).toBe(3);
      await sleep(500);
      second.child.kill('SIGKILL');
      await second.exit;
      const lease = await client.of(leases).get({ namespace: 'default', name: 'fenced' });
      const takenAt = Date.parse(lease.spec?.acquireTime ?? '');
      const writes = auditedWrites();
      const late = writes.filter(({ userAgent, at }) => userAgent === 'first' && at >= takenAt);
      expect(lease.spec?.holderIdentity).toBe('second');
      expect(writes.filter(({ userAgent, at }) => userAgent === 'first' && at < takenAt).length).toBeGreaterThan(10);
      expect(writes.filter(({ userAgent }) => userAgent === 'second').length).toBeGreaterThan(10);
      expect(late).toEqual([]);
    },
    minutes,
  );
});

/** Writes of ConfigMaps, from the API server's own log. */
function auditedWrites(): { readonly userAgent: string; readonly at: number }[] {
  const lines = readFileSync(plane.auditLogPath, 'utf8').trim().split('\n');
  const events = lines.map((line) => JSON.parse(line) as AuditEvent);
  return events
    .filter(({ verb, objectRef }) => verb === 'patch' && objectRef?.resource === 'configmaps')
    .map(({ userAgent, requestReceivedTimestamp }) => ({ userAgent, at: Date.parse(requestReceivedTimestamp) }));
}

interface AuditEvent {
  readonly verb: string;
  readonly userAgent: string;
  readonly requestReceivedTimestamp: string;
  readonly objectRef?: { readonly resource: string };
}
