/**
 * `make demo`: brings up one site on this machine, builds and loads the image, installs the chart with Helm, shows the
 * Site, and does the main job as a member of a virtual organization: an array job on real data in a volume, and a chart of what it found. Says what to try next. Safe to repeat at any time, also after it was killed half-way. `make down` takes it away.
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
import { runMainJob, startFileSystem } from './main-job.ts';
import { formOrganization, showPod } from './organization.ts';

const root = path.resolve(import.meta.dirname, '../..');
/** Tasks of the array job, and the one that merges. */
const tasks = 9;
const namespace = 'xtreemos-system';
const release = 'xtreemos';
const siteName = 'demo';
const nodes = 2;
/** Port of the gateway on the nodes. */
const gatewayPort = 30_743;

const started = performance.now();
const seconds = (): number => Math.round((performance.now() - started) / 100) / 10;
const report = (line: string): void => void process.stderr.write(`${seconds().toFixed(1).padStart(6)} s  ${line}\n`);

async function demo(name: string): Promise<void> {
  report(
    `Starting site ${name} with ${nodes} nodes (the first time its programs are built, which takes up to 25 minutes)`,
  );
  const { isWarm } = await localProvider.up({ name, sites: 1, nodes, report });
  const { kubeconfig, sites } = await openSites(name);
  const [site] = sites;
  if (site === undefined) throw new TerminalError(`${name} has no site: make down NAME=${name}, then try again`);
  const digest = await loadImage(site);
  await install(site, digest);
  report('Waiting for the Site to be Ready');
  const ready = await waitForSite(site, Date.now());
  console.log(`\n$ kubectl get site\n${await site.kubectl(['get', 'site'])}`);
  await startFileSystem({ site });
  const member = await formOrganization({ site, siteName, kubeconfig, report });
  try {
    report('Running a pod as the member');
    console.log(`\n${showPod(member)}`);
    console.log(`\n${await runMainJob({ site, systemNamespace: namespace, report }, member)}`);
    console.log(`\n$ xos nodes\n${member.xos('nodes')}`);
  } finally {
    member.logOut(siteName);
  }
  console.log(await nextSteps(site, name, kubeconfig));
  const figure = {
    seconds: seconds(),
    sites: 1,
    tasks,
    warm: isWarm,
    nodes: ready.status?.nodes?.ready ?? 0,
  };
  console.log(`figure: ${JSON.stringify(figure)}`);
}

/** Bundles the programs, builds the image without a daemon and imports it into the nodes. @returns its digest. */
async function loadImage(site: TestSite): Promise<string> {
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
    await site.loadImage(archive);
    return image?.digest ?? '';
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Installs, or upgrades what is there. The digest makes the pods start anew when the image has changed under the same name. */
async function install(site: TestSite, digest: string): Promise<void> {
  await clearInterrupted(site);
  report('Installing with Helm');
  const settings = [
    `site.name=${siteName}`,
    'site.attributes.country=FR',
    'site.attributes.organization=Example University',
    'operator.siteHeartbeatSeconds=5',
    `gateway.address=${site.gatewayAddress}:${gatewayPort}`,
    `gateway.apiServer=${readCredentials(site.kubeconfig).server}`,
    'gateway.service.type=NodePort',
    `gateway.service.nodePort=${gatewayPort}`,
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
async function waitForSite(site: TestSite, since: number): Promise<Site> {
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

async function nextSteps(site: TestSite, name: string, kubeconfig: string): Promise<string> {
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
    `Take it away: make down${name === siteName ? '' : ` NAME=${name}`}`,
  ];
  return `${lines.join('\n')}\n`;
}

const { values } = parseArgs({ options: { name: { type: 'string', default: 'demo' } } });
try {
  await demo(values.name);
} catch (error) {
  process.stderr.write(`The demo can not go on: ${describeError(error)}\n`);
  process.exitCode = 1;
}
