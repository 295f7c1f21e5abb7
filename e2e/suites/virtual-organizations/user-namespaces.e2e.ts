/** A virtual organization that demands user namespaces, on real nodes: what its pods are inside, and what they are for the node. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { sliceIdOf } from '#common/identity/ids.ts';
import type { Pod } from '#runtime/builtin.ts';
import type { CommandResult } from '#sites/shell.ts';
import { waitFor } from '#sites/harness.ts';
import { processesIn } from '../components.ts';
import { type Login, Product } from '../product.ts';

jest.setTimeout(180_000);

const name = 'suite-userns';
/** How many ids a user namespace of Kubernetes has. */
const namespaceSize = 65_536;
let product: Product;

beforeAll(async () => {
  product = await Product.install(name);
  const { site } = product;
  await site.kubectl(['wait', '--for=create', 'site/home', '--timeout=60s']);
  const offer = JSON.stringify({ spec: { local: { isolation: ['Namespace', 'UserNamespace'] } } });
  await site.kubectl(['patch', 'site', 'home', '--type=merge', '-p', offer]);
  await product.formOrganization({ isolation: { minimum: 'UserNamespace' }, identity: { uidMode: 'Local' } });
  await product.join('anna');
  await product.join('bert');
}, 400_000);

afterAll(async () => product.uninstall());

/** Runs a pod as a member who says nothing of identity or isolation. */
async function run({ login, userName }: Login, flags: readonly string[] = []): Promise<CommandResult> {
  const image = ['--image=xtreemos.io/busybox:1', '--image-pull-policy=Never', '--restart=Never'];
  return product.site.tryKubectl([...login, 'run', `${userName}-pod`, ...image, ...flags, '--', 'sleep', '3600']);
}

/** One line of `/proc/PID/uid_map`: ids from `inside` on are those from `outside` on, `size` of them. */
interface IdMap {
  readonly inside: number;
  readonly outside: number;
  readonly size: number;
}

function readMap(text: string): IdMap {
  const [inside = Number.NaN, outside = Number.NaN, size = Number.NaN, ...more] = text.trim().split(/\s+/).map(Number);
  expect(more).toEqual([]);
  return { inside, outside, size };
}

/** The pod of a member, and its one process as the node sees it. */
async function look({ userName }: Login): Promise<{ pod: Pod; pid: number }> {
  const { site, namespace } = product;
  await site.kubectl(['wait', '--for=condition=Ready', `pod/${userName}-pod`, '-n', namespace, '--timeout=60s']);
  const pod = await site.get<Pod>('pod', `${userName}-pod`, '-n', namespace);
  const [pid] = processesIn([pod]);
  if (pid === undefined) throw new Error(`no process of ${userName}-pod was found on this machine`);
  return { pod, pid };
}

describe('user namespaces (threat 4)', () => {
  const bases: number[] = [];

  test.each(['anna', 'bert'])(
    'the pod of %s has the issued number inside, and another one on the node',
    async (who) => {
      const member = await product.logIn(who);
      await waitFor(`${who} may run pods`, async () => (await run(member)).status === 0, { limitMs: 60_000 });
      const { pod, pid } = await look(member);
      const local = sliceIdOf(member.uid)!.localId;
      expect(pod.spec?.hostUsers).toBe(false);
      const said = await product.site.exec(product.namespace, pod.metadata.name, 'id -u; cat /proc/self/uid_map');
      const [inside, map] = said.stdout.trim().split('\n');
      expect(Number(inside)).toBe(local);
      const { outside } = readMap(map!);
      expect(outside).toBeGreaterThan(0);
      // As the node sees it: neither the number inside nor the issued one, both of which mean somebody there.
      expect(readMap(readFileSync(`/proc/${pid}/uid_map`, 'utf8'))).toEqual({
        inside: 0,
        outside,
        size: namespaceSize,
      });
      const uids = /^Uid:\s+(.*)$/m
        .exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]!
        .split(/\s+/)
        .map(Number);
      expect(uids).toEqual(Array(4).fill(outside + local));
      bases.push(outside);
    },
  );

  test('pods of two members share no number on the node', () => {
    expect(bases).toHaveLength(2);
    expect(Math.abs(bases[0]! - bases[1]!)).toBeGreaterThanOrEqual(namespaceSize);
  });

  test('nobody gets a pod without one', async () => {
    const member = await product.logIn('anna');
    const overrides = JSON.stringify({ spec: { hostUsers: true } });
    const { status, stderr } = await run({ ...member, userName: `${member.userName}-host` }, [
      `--overrides=${overrides}`,
    ]);
    expect(status).not.toBe(0);
    expect(stderr).toContain('hostUsers: true');
    // Two policies refuse it; the API server tells the word of either.
    expect(stderr).toMatch(
      /this virtual organization works in user namespaces|less than UserNamespace, the isolation that this virtual organization wants/,
    );
  });
});
