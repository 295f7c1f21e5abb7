/** Jobs that submit jobs, on a real site: a real kubelet brings the token, a real network lets it through to the gateway and nowhere else. */
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { type Finished, runXos } from '#cli/testing/processes.ts';
import type { GridJob } from '#crds/grid-job.ts';
import type { Stored } from '#runtime/index.ts';
import { type TestSite, waitFor } from '#sites/harness.ts';
import { nodeJobRecipe, productImage } from '../../../hack/images/recipes.ts';
import { aTask, podsOfJob, shellImage } from '../job-objects.ts';
import { type Login, Product } from '../product.ts';

jest.setTimeout(180_000);

let product: Product;
let site: TestSite;
let namespace: string;
let alice: Login;

beforeAll(async () => {
  product = await Product.install('suite-grid-access');
  ({ site, namespace } = product);
  await site.loadRecipes([nodeJobRecipe()]);
  await product.formOrganization();
  await product.join('alice');
  alice = await product.logIn('alice');
}, 480_000);

afterAll(async () => {
  await site.tryKubectl(['delete', 'gridjobs', '--all', '-n', namespace, '--timeout=60s'], { timeoutMs: 70_000 });
  await product.uninstall();
});

async function submit(name: string, spec: object): Promise<void> {
  const job = { apiVersion: 'xtreemos.io/v1alpha1', kind: 'GridJob', metadata: { name }, spec };
  await site.kubectl([...alice.login, 'create', '-f', '-'], { input: JSON.stringify(job) });
}
const xos = async ([command = '', ...words]: readonly string[]): Promise<Finished> =>
  runXos([command, ...alice.login, ...words], {});
const until = async (name: string, is: (job: Stored<GridJob>) => boolean): Promise<Stored<GridJob>> =>
  site.until(['gridjob', name, '-n', namespace], is, 90_000);
const state =
  (wanted: string) =>
  (job: GridJob): boolean =>
    job.status?.state === wanted;
const isRunning = (job: GridJob): boolean => job.status?.tasks?.running === 1;
const isGone = async (name: string): Promise<boolean> => (await podsOfJob(site, namespace, name)).length === 0;

/** What a task of the product's own image does. */
const program = (...args: string[]): object => ({
  ...{ image: productImage(), args, resources: { cpu: '200m', memory: '256Mi' }, terminationGraceSeconds: 2 },
});
/** What a task with Node.js does. */
const script = (text: string): object => ({
  image: 'xtreemos.io/node-job:1',
  command: ['node', '--input-type=module', '-e', text],
  ...{ resources: { cpu: '200m', memory: '256Mi' }, terminationGraceSeconds: 2 },
});
/** Says whether the gateway, and the API server, can be reached from a pod. */
const probes = (gateway: string): string => `
import { connect } from 'node:net';
const reach = (name, host, port) => new Promise((resolve) => {
  const end = (word) => { console.log(name, word); socket.destroy(); resolve(); };
  const socket = connect({ host, port, timeout: 4000 }, () => end('open'));
  socket.on('timeout', () => end('closed')).on('error', (error) => end(error.code === 'ETIMEDOUT' ? 'closed' : error.code));
});
const [host, port] = ${gateway}.split(':');
await reach('gateway', host, Number(port));
await reach('api', 'kubernetes.default.svc', 443);
`;

describe('a task with access to the grid', () => {
  test('submits by xos, is the parent of what it submitted, and rules over it also when it has ended', async () => {
    const words = ['xos', 'sub', '--name', 'child', '--grid-access', '--grace', '1s', productImage(), '--'];
    const nested = ['xos', 'sub', '--name', 'grandchild', '--grace', '1s', shellImage, '--', 'sleep', '900'];
    await submit('parent', { gridAccess: true, template: program(...words, 'node', '/app/main.mjs', ...nested) });
    const parent = await until('parent', state('Succeeded'));
    const child = await until('child', state('Succeeded'));
    expect(child.spec).toMatchObject({ owner: alice.userName, parent: { job: 'parent', uid: parent.metadata.uid } });
    const grandchild = await until('grandchild', isRunning);
    expect(grandchild.spec).toMatchObject({ owner: alice.userName, parent: { job: 'child' } });
    const tree = (await xos(['ps', '--all'])).stdout;
    expect(tree).toMatch(/^parent .*\n└ child .*\n {2}└ grandchild .*Running/m);
    expect(await xos(['wait', '--timeout', '1s', 'parent'])).toMatchObject({
      ...{ code: 124, stderr: expect.stringMatching(/all below parent to end: grandchild is running/) },
    });
    expect((await xos(['kill', 'parent'])).stdout).toBe('parent: SIGTERM sent\n');
    await until('grandchild', state('Killed'));
    expect((await xos(['wait', 'parent'])).code).toBe(0);
    await waitFor('nothing of it runs', async () => isGone('grandchild'));
  });

  test('submits by HTTP, and takes what it submitted with it when it is suspended and killed', async () => {
    const post = `
import { readFileSync } from 'node:fs';
import { request } from 'node:https';
const { XTREEMOS_GATEWAY_ADDRESS: address, XTREEMOS_GATEWAY_CA_FILE: ca, XTREEMOS_GATEWAY_TOKEN_FILE: token } = process.env;
const body = JSON.stringify({ name: 'by-http', spec: { template: ${JSON.stringify(aTask('sleep 900'))} } });
const headers = { authorization: 'Bearer ' + readFileSync(token, 'utf8'), 'content-type': 'application/json' };
const call = request('https://' + address + '/v1/jobs', { method: 'POST', ca: readFileSync(ca), headers }, (answer) => {
  console.log('answered', answer.statusCode);
  answer.resume();
});
call.end(body);
setInterval(() => undefined, 1000);
`;
    await submit('by-hand', { gridAccess: true, template: script(post) });
    await until('by-http', isRunning).catch(async (error: unknown) => {
      throw new Error((await xos(['logs', 'by-hand'])).stdout, { cause: error });
    });
    expect((await xos(['logs', 'by-hand'])).stdout).toBe('answered 201\n');
    expect((await xos(['suspend', 'by-hand'])).code).toBe(0);
    for (const name of ['by-hand', 'by-http']) {
      await until(name, (job) => state('Suspended')(job) && job.status?.tasks?.running === 0);
    }
    expect((await xos(['resume', 'by-hand'])).code).toBe(0);
    for (const name of ['by-hand', 'by-http']) await until(name, isRunning);
    expect((await xos(['kill', '-9', 'by-hand'])).code).toBe(0);
    for (const name of ['by-hand', 'by-http']) await until(name, state('Killed'));
    for (const name of ['by-hand', 'by-http']) await waitFor(`${name} is gone`, async () => isGone(name));
  });

  test('has a token that is worth nothing at the API server, and none when its job did not ask (threat 46)', async () => {
    await submit('keeper', { gridAccess: true, template: aTask('sleep 900') });
    await until('keeper', isRunning);
    const file = '/var/run/xtreemos/gateway/token';
    const { stdout: token } = await xos(['exec', 'keeper', '--', 'cat', file]);
    expect(token.split('.')).toHaveLength(3);
    const who = await site.tryKubectl(['auth', 'whoami', '--kubeconfig', '/dev/null', ...(await apart(token))]);
    expect([who.status, who.stderr]).toEqual([1, expect.stringMatching(/Unauthorized|must be logged in/)]);
    const [pod] = await podsOfJob(site, namespace, 'keeper');
    expect(JSON.stringify(pod).match(/serviceAccountToken/g)).toHaveLength(1);
    await submit('modest', { template: aTask('ls /var/run/secrets /var/run/xtreemos; env') });
    await until('modest', state('Succeeded'));
    const said = (await xos(['logs', 'modest'])).stdout;
    expect(said).not.toMatch(/token|XTREEMOS_GATEWAY/);
    expect((await xos(['kill', '-9', 'keeper'])).code).toBe(0);
  });

  test('reaches the gateway and not the API server, and other tasks reach neither', async () => {
    const gateway = 'process.env.XTREEMOS_GATEWAY_ADDRESS';
    await submit('prober', { gridAccess: true, template: script(probes(gateway)) });
    await until('prober', state('Succeeded'));
    expect((await xos(['logs', 'prober'])).stdout).toBe('gateway open\napi closed\n');
    const address = `'xtreemos-gateway.${product.name}.svc:7443'`;
    await submit('outsider', { template: script(probes(address)) });
    await until('outsider', state('Succeeded'));
    expect((await xos(['logs', 'outsider'])).stdout).toBe('gateway closed\napi closed\n');
  });
});

/** Flags with which kubectl is whoever the token says, and nobody else. */
async function apart(token: string): Promise<string[]> {
  const view = ['config', 'view', '--minify', '--raw', '-o', 'jsonpath={.clusters[0].cluster.server}'];
  const server = await site.kubectl(view);
  return ['--server', server, '--insecure-skip-tls-verify', '--token', token.trim()];
}
