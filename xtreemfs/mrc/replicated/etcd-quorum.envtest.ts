/** The log of replicated MRCs in a real etcd, and the store over it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach } from '@jest/globals';
import { systemRandom } from '#common/random.ts';
import { startEtcd, type TestEtcd } from '#xtreemfs/testing/etcd.ts';
import { EtcdQuorum } from './etcd-quorum.ts';
import { describeKvStore } from '../testing/store-compliance.ts';
import { startMember, until, type TestMember } from './testing/member.ts';
import { describeQuorum } from './testing/quorum-compliance.ts';

let etcd: TestEtcd;
const opened: EtcdQuorum[] = [];
const folder = mkdtempSync(join(tmpdir(), 'xtreemfs-etcd-quorum-'));
const members: TestMember[] = [];
let prefixes = 0;
beforeEach(() => {
  prefixes++;
});
beforeAll(async () => {
  etcd = await startEtcd();
}, 600_000);
afterAll(async () => {
  for (const quorum of opened) quorum.close();
  await etcd.stop();
  rmSync(folder, { recursive: true });
});

describeQuorum('EtcdQuorum', () => {
  const prefix = `/compliance/${prefixes}`;
  const open = (): EtcdQuorum => {
    const quorum = new EtcdQuorum({ endpoints: [etcd.url], prefix });
    opened.push(quorum);
    return quorum;
  };
  return [open(), open()];
});

describeKvStore('The store of a replicated MRC over etcd', () => ({
  open: async (limits) => {
    const quorum = new EtcdQuorum({ endpoints: [etcd.url], prefix: `/store/${prefixes}` });
    const path = join(folder, String(prefixes));
    const replica = { termMs: 2_000 };
    const member = await startMember({ uuid: 'alone', path, quorum, random: systemRandom(), replica, ...limits });
    members.push(member);
    await until('it leads', () => member.replica.isLeading);
    return member.replica.store;
  },
  close: async (store) => await members.find(({ replica }) => replica.store === store)?.replica.stop(),
}));
