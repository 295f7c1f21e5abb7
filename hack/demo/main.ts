/**
 * `make demo`: brings up two sites on this machine (`SITES=1` to 3), builds and loads the image, installs the chart with Helm at each, makes
 * them peers, and forms a virtual organization over them. As its member it does the main job: an array job over all sites, each task of which reads
 * its part of real data in a volume that the first site keeps, and a chart of what it found in the home of the member. Says what to try next. Safe to repeat at any time, also
 * after it was killed half-way. `make down` takes it away.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { describeError, TerminalError } from '#common/errors.ts';
import type { Site } from '#crds/site.ts';
import { openSites, type TestSite, waitFor } from '#sites/harness.ts';
import { readCredentials } from '#sites/kubeconfig.ts';
import { findCommand } from '#sites/prerequisites.ts';
import { localProvider } from '#sites/provider.ts';
import { ensureTools } from '#sites/tools.ts';
import { writeArchive, writeLayout } from '../images/layout.ts';
import { nodeJobRecipe, productRecipe } from '../images/recipes.ts';
import { mainJobTasks, runMainJob, startFileSystem } from './main-job.ts';
import { formOrganization, type NamedSite, showPod } from './organization.ts';
import { joinSites } from './peers.ts';

const root = path.resolve(import.meta.dirname, '../..');
const namespace = 'xtreemos-system';
const release = 'xtreemos';
/** Names of the Site objects; the first is the home of the organization. */
const siteNames = ['demo', 'lyon', 'bologna'];
const nodes = 2;
/** Port of the gateway on the nodes. */
const gatewayPort = 30_743;

const started = performance.now();
const seconds = (): number => Math.round((performance.now() - started) / 100) / 10;
const report = (line: string): void => void process.stderr.write(`${seconds().toFixed(1).padStart(6)} s  ${line}\n`);

async function demo(name: string, count: number): Promise<void> {
  const what = count === 1 ? 'one site' : `${count} sites`;
  report(`Starting ${what} with ${nodes} nodes each (the first time programs are built, which takes up to 25 minutes)`);
  const { isWarm } = await localProvider.up({ name, sites: count, nodes, report });
  const { kubeconfig, sites } = await openSites(name);
  const named = sites.slice(0, count).map((site, index) => ({ site, siteName: siteNames[index] ?? site.name }));
  const [home, ...peers] = named;
  if (home === undefined || named.length < count)
    throw new TerminalError(`${name} has fewer than ${count} sites: make down NAME=${name}, then try again`);
  const { site, siteName } = home;
  const digest = await loadImage(sites);
  report('Installing with Helm');
  await Promise.all(named.map(async (each) => install(each, digest)));
  report(`Waiting for ${count === 1 ? 'the Site' : 'each Site'} to be Ready`);
  const since = Date.now();
  const ready = await Promise.all(named.map(async (each) => waitForSite(each, since)));
  await startFileSystem({ site });
  for (const peer of peers) await joinSites(home, peer, report);
  console.log(`\n$ kubectl get site\n${await site.kubectl(['get', 'site'])}`);
  const member = await formOrganization({ site, siteName, peers, kubeconfig, report });
  try {
    report('Running a pod as the member');
    console.log(`\n${showPod(member)}`);
    console.log(`\n${await runMainJob({ site, siteName, systemNamespace: namespace, report }, member)}`);
    console.log(`\n$ xos nodes\n${member.xos('nodes')}`);
  } finally {
    member.logOut(siteName);
  }
  console.log(await nextSteps(named, name, kubeconfig));
  const figure = {
    ...{ seconds: seconds(), sites: count, tasks: mainJobTasks, warm: isWarm },
    nodes: ready.reduce((sum, { status }) => sum + (status?.nodes?.ready ?? 0), 0),
  };
  console.log(`figure: ${JSON.stringify(figure)}`);
}

/** Bundles the programs, builds the image without a daemon and imports it into the nodes. @returns its digest. */
async function loadImage(sites: readonly TestSite[]): Promise<string> {
  report('Bundling the programs and building the image');
  execFileSync(process.execPath, [path.join(root, 'hack/bundle.ts')], {
    cwd: root,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const scratch = mkdtempSync(path.join(tmpdir(), 'xtreemos-demo-'));
  try {
    const layout = path.join(scratch, 'layout');
    const archive = path.join(scratch, 'images.tar');
    mkdirSync(layout);
    const [image] = await writeLayout(layout, [productRecipe(), nodeJobRecipe()]);
    await writeArchive(layout, archive);
    report('Loading the image into the nodes');
    await Promise.all(sites.map(async (site) => site.loadImage(archive)));
    return image?.digest ?? '';
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Installs, or upgrades what is there. The digest makes the pods start anew when the image has changed under the same name. */
async function install({ site, siteName }: NamedSite, digest: string): Promise<void> {
  await clearInterrupted(site);
  const settings = [
    `site.name=${siteName}`,
    'site.attributes.country=FR',
    'site.attributes.organization=Example University',
    'operator.siteHeartbeatSeconds=5',
    `gateway.address=${site.gatewayAddress}:${gatewayPort}`,
    `gateway.apiServer=${readCredentials(site.kubeconfig).server}`,
    'gateway.service.type=NodePort',
    `gateway.service.nodePort=${gatewayPort}`,
    `networkPolicy.peerPorts={${gatewayPort}}`,
  ];
  await site.helm([
    'upgrade',
    release,
    path.join(root, 'charts/xtreemos'),
    '--install',
    '--namespace',
    namespace,
    '--create-namespace',
    '--wait',
    '--timeout=180s',
    ...settings.flatMap((setting) => ['--set', setting]),
    '--set-string',
    `operator.podAnnotations.xtreemos\\.io/image-digest=${digest}`,
  ]);
}

/** Helm that was killed leaves a release "pending", which it then refuses to touch. Nothing of the users is in a release. */
async function clearInterrupted(site: TestSite): Promise<void> {
  const list = await site.helm(['list', '--namespace', namespace, '--output', 'json', '--filter', `^${release}$`]);
  const [found] = JSON.parse(list) as { status: string }[];
  if (found === undefined || found.status === 'deployed') return;
  report(`Clearing an installation that was interrupted (${found.status})`);
  await site.helm(['uninstall', release, '--namespace', namespace, '--wait', '--timeout=60s']);
}

/** @param since - milliseconds since the Unix epoch: what was observed earlier, perhaps by an operator that is gone, doesn't count. */
async function waitForSite({ site, siteName }: NamedSite, since: number): Promise<Site> {
  return waitFor(
    `Site ${siteName} is Ready with ${nodes} nodes`,
    async () => {
      const found = await site.get<Site>('site', siteName);
      const ready = found.status?.conditions?.find((condition) => condition.type === 'Ready');
      const isFresh = Date.parse(found.status?.lastSeenTime ?? '') >= since - 1000;
      return isFresh && ready?.status === 'True' && found.status?.nodes?.ready === nodes ? found : undefined;
    },
    { limitMs: 120_000, pauseMs: 500 },
  );
}

async function nextSteps(named: readonly NamedSite[], name: string, kubeconfig: string): Promise<string> {
  const [home, peer] = named;
  if (home === undefined) return '';
  const { site, siteName } = home;
  const hasKubectl = findCommand('kubectl') !== undefined;
  const kubectl = (await ensureTools(['kubectl'])).path('kubectl');
  const lines = [
    'Try next:',
    `  export KUBECONFIG=${kubeconfig}`,
    ...(hasKubectl ? [] : [`  alias kubectl=${kubectl}`]),
    `  kubectl describe site ${siteName}            # conditions and events`,
    '  kubectl explain site.spec.local         # what its owner can say',
    `  kubectl edit site ${siteName}                # say it`,
    `  kubectl cordon ${site.nodes.at(-1) ?? ''}            # then look at the site again; uncordon undoes it`,
    '  make install-cli PREFIX=~/.local        # xos, if ~/.local/bin is on your PATH',
    `  xos login --kubernetes --context bob@${site.name}   # as the member; then`,
    `  xos run --context xos-${siteName}-physics xtreemos.io/busybox:1 -- id   # and xos ps, xos nodes, xos --help`,
    ...(peer === undefined
      ? []
      : [
          `  xos site cut ${peer.siteName} --context ${site.name}   # its tasks end there, and start here a minute later; xos site open`,
        ]),
    `Take it away: make down${name === siteName ? '' : ` NAME=${name}`}`,
  ];
  return `${lines.join('\n')}\n`;
}

const { values } = parseArgs({
  options: { name: { type: 'string', default: 'demo' }, sites: { type: 'string', default: '2' } },
});
try {
  if (!/^[1-3]$/.test(values.sites)) throw new TerminalError(`SITES: must be 1 to 3, not ${values.sites}`);
  await demo(values.name, Number(values.sites));
} catch (error) {
  process.stderr.write(`The demo can not go on: ${describeError(error)}\n`);
  process.exitCode = 1;
}
