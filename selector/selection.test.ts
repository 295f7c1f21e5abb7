import { createPrivateKey, createPublicKey } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe } from '@jest/globals';
import { credentials, ServerCredentials } from '@grpc/grpc-js';
import { systemClock } from '#common/clock.ts';
import { createLogger } from '#common/logger.ts';
import { systemRandom } from '#common/random.ts';
import { GrpcResourceSelection } from '#proto/selector/client.ts';
import { aQuery, complianceNodes, selectAll, testCompliance } from '#proto/selector/testing/compliance.ts';
import type { FakeNode } from '#proto/selector/testing/fake.ts';
import { MemoryClaimStore } from './ledger/store.ts';
import { SiteSigner, TrustSet } from './overlay/trust.ts';
import { SelectorProcess } from './process.ts';
import { makeCredentials, type SiteFiles } from './testing/credentials.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'xtreemos-selection-'));
const running = new Map<string, { host: SelectorProcess; store: MemoryClaimStore; port: number }>();
let files: SiteFiles;
let selection: GrpcResourceSelection;

beforeAll(async () => {
  files = (await makeCredentials(folder, ['lyon'])).get('lyon')!;
  // Asks nobody's node: as beside the operator.
  const asker = { name: 'asker', attributes: {}, allocatable: {} };
  const port = await launch(asker, new MemoryClaimStore(), false);
  const read = (file: string): Buffer => readFileSync(file);
  selection = new GrpcResourceSelection(
    `127.0.0.1:${port}`,
    credentials.createSsl(read(files.tlsCa), read(files.tlsKey), read(files.tlsCertificate)),
  );
  for (const node of complianceNodes) await launch(node, new MemoryClaimStore(), true);
  await untilWhole();
}, 60_000);

afterAll(async () => {
  selection.close();
  await Promise.all([...running.values()].map(async ({ host }) => host.stop()));
  rmSync(folder, { recursive: true, force: true });
});

describe('resource selection by real selectors', () => {
  testCompliance(() => ({
    selection,
    deadAddress: '127.0.0.1:1',
    now: () => systemClock.now(),
    crash: async (name) => {
      const { host, store } = running.get(name)!;
      await host.stop();
      await launch(
        complianceNodes.find((node) => node.name === name)!,
        store,
        true,
      );
      await untilWhole();
    },
  }));
});

async function launch(node: FakeNode, store: MemoryClaimStore, isOffering: boolean): Promise<number> {
  const [ca, key, certificate] = [files.tlsCa, files.tlsKey, files.tlsCertificate].map((file) => readFileSync(file));
  const publicKey = createPublicKey(readFileSync(path.join(files.siteTrust, 'lyon.pem')));
  const host = new SelectorProcess({
    ...{ clock: systemClock, logger: createLogger({ name: node.name, level: 'error' }) },
    clientCredentials: credentials.createSsl(ca, key, certificate),
    serverCredentials: ServerCredentials.createSsl(ca!, [{ private_key: key!, cert_chain: certificate! }], true),
  });
  const { port } = await host.add(
    {
      components: {
        ...{ random: systemRandom(), store, liveSource: () => ({ load1: 0.5 }), endPod: async () => Promise.resolve() },
        signer: new SiteSigner('lyon', createPrivateKey(readFileSync(files.siteKey))),
        verifier: new TrustSet([['lyon', publicKey]]),
      },
      settings: { site: 'lyon', node: node.name, isOffering, overlay: { periodMs: 200 } },
      view: {
        ...{ attributes: node.attributes, allocatable: node.allocatable, pods: [] },
        ...{ virtualOrganizations: ['*'], refusal: undefined },
      },
      ...{ listen: '127.0.0.1:0', advertise: '127.0.0.1:0' },
    },
    [...running.values()].map((other) => `127.0.0.1:${other.port}`),
  );
  running.set(node.name, { host, store, port });
  return port;
}

/** A start or restart changes links for some rounds: quiet is when ten answers in a row were whole. */
async function untilWhole(): Promise<void> {
  for (let whole = 0; whole < 10;) {
    const { offers } = await selectAll(selection, aQuery({ constraints: [{ attribute: 'cores', min: 1 }] }));
    whole = offers.length === complianceNodes.length ? whole + 1 : 0;
    await systemClock.sleep(100);
  }
}
