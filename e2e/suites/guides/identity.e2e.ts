/** The guide to identity, typed as it stands: a real OpenID provider, the codes that it shows, and what `curl` gets. */
import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { TestOpenIDProvider } from '#operator/testing/openid-provider.ts';
import { readCredentials } from '#sites/kubeconfig.ts';
import { waitFor } from '#sites/harness.ts';
import { Desk, stepsUnder } from './desk.ts';
import type { Step } from './guide.ts';

jest.setTimeout(180_000);
const gatewayPort = 30_743;

let desk: Desk;
let provider: TestOpenIDProvider;
let gateway: string;
let indent: (pem: string) => string;

/** Address of this machine at which the nodes of a site reach it. */
async function addressTowards(node: string): Promise<string> {
  const socket = createSocket('udp4');
  await new Promise<void>((resolve) => {
    socket.connect(9, node, resolve);
  });
  const { address } = socket.address();
  socket.close();
  return address;
}

beforeAll(async () => {
  desk = await Desk.open();
  const host = await addressTowards(desk.site.gatewayAddress);
  gateway = `${desk.site.gatewayAddress}:${gatewayPort}`;
  provider = await TestOpenIDProvider.start({ host, gateways: [gateway] });
  indent = (pem) => pem.trim().replaceAll(/^/gm, ' '.repeat(12));
  await desk.install();
}, 300_000);

afterAll(async () => {
  await desk.close();
  await provider.stop();
});

const guide = path.resolve(import.meta.dirname, '../../../docs/identity.md');
const under = (heading: string): [Step, ...Step[]] => stepsUnder('docs/identity.md', heading);

/** Types commands of a guide with the names of this site in place of those of an example. */
async function typeWith(step: Step, names: Readonly<Record<string, string>>): Promise<void> {
  let { script } = step;
  for (const [name, ours] of Object.entries(names)) {
    expect(script).toContain(name);
    script = script.replaceAll(name, ours);
  }
  await desk.type({ ...step, script });
}

const own = async (script: string): Promise<string> => {
  const { printed, status } = await desk.terminal.type(script, 60_000);
  if (status !== 0) throw new Error(`${script}: ${printed}`);
  return printed;
};

test('the owner says where the gateway is', async () => {
  const [step] = under('For the owner of a site');
  const port = new URL(provider.issuer).port;
  const { server } = readCredentials(desk.site.kubeconfig);
  await own('cd "$OLDPWD"');
  await typeWith(step, {
    'gateway.example.org:7443': gateway,
    'https://cluster.example.org:6443': server,
    'gateway.service.type=LoadBalancer': `'networkPolicy.identityProviderPorts={443,${port}}' --wait`,
  });
  await own('cd "$OLDPWD"');
});

test('the owner names an OpenID provider', async () => {
  const [, step] = under('For the owner of a site');
  await typeWith(step!, {
    'THE CLIENT SECRET': provider.clientSecret,
    'https://login.example.org': `${provider.issuer}\n          caBundle: |\n${indent(provider.caBundle)}`,
  });
});

test('a member of that provider is invited, and logs in with a code in a browser', async () => {
  await own('xos vo create physics --activate && xos vo approve physics --wait');
  await own('kubectl wait --for=condition=Ready vo/physics --timeout=60s');
  await own(`xos member invite carol --vo physics --principal '${provider.issuer}#carol' --wait`);
  await own('export OWNER=$KUBECONFIG');
  await own('export GATEWAY=$(kubectl get cm xtreemos-gateway -n kube-public -o jsonpath={.data.address})');
  await own('kubectl get cm xtreemos-gateway -n kube-public -o jsonpath={.data.caBundle} > gateway.pem');
  await own('export KUBECONFIG=$PWD/carol.kubeconfig XDG_STATE_HOME=$PWD/carol.state');
  await own('xos login --gateway $GATEWAY --ca gateway.pem --issuer lab --device > login.log 2>&1 & LOGIN=$!');
  const address = await waitFor('the code is shown', async () => /https:\S+/.exec(await own('cat login.log'))?.[0], {
    limitMs: 60_000,
  });
  provider.gateways.set(gateway, { port: gatewayPort, caBundle: await own('cat gateway.pem') });
  const shown = await own('cat login.log');
  const code = /\b[A-Z]{4}-[A-Z]{4}\b/.exec(shown)?.[0] ?? '';
  await provider.browse(address.includes(code) ? address : `${address}?code=${code}`, 'carol');
  await own('wait $LOGIN');
  expect(await own('xos whoami -o name')).toBe(`${provider.issuer}#carol`);
});

test('a member sees who they are, and uses plain kubectl', async () => {
  const [step] = under('For members');
  await typeWith(
    { ...step, script: step.script.slice(step.script.indexOf('xos whoami')) },
    { 'xos-SITE-VO': 'xos-demo-physics' },
  );
});

test('a user of the cluster gets the same by curl', async () => {
  const [, step] = under('For members');
  await own('export KUBECONFIG=$OWNER; unset XDG_STATE_HOME');
  const { certificate, key } = readCredentials(desk.site.kubeconfig);
  await own(`cat > me.pem <<'END'\n${certificate.trim()}\nEND\ncat > me-key.pem <<'END'\n${key.trim()}\nEND`);
  const lines = step!.script.split('\n');
  const last = lines.pop();
  const answers = await own(lines.join('\n'));
  expect(answers).toContain('"subject":"admin"');
  // Who is no member of it is told so, and what to do.
  expect(await own(last ?? '')).toContain('You are no member of physics at this site');
});

test('the owner ends every session', async () => {
  await own('export KUBECONFIG=$PWD/carol.kubeconfig XDG_STATE_HOME=$PWD/carol.state');
  const command = /`(kubectl delete secret xtreemos-gateway-key [^`]*)`/.exec(readFileSync(guide, 'utf8'))?.[1];
  await own(`KUBECONFIG=$OWNER ${command ?? 'false'}`);
  const told = await waitFor('the session is over', async () => {
    const { printed, status } = await desk.terminal.type('xos whoami', 60_000);
    return status === 0 ? undefined : printed;
  });
  expect(told).toContain('log in');
});
