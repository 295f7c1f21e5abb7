/** The command line of the sites: `node e2e/sites/main.ts up | down | status | fault`. */
import { parseArgs } from 'node:util';

import { describeError, TerminalError } from '#common/errors.ts';

import { faultHelp, runFault } from './faults.ts';
import { instanceNames } from './instance.ts';
import { type InstanceStatus, openInstance, memoryOf, statusOf } from './lifecycle.ts';
import { chooseProvider } from './provider.ts';

const help = `Real Kubernetes sites on this machine.

usage: node e2e/sites/main.ts COMMAND [flags]

  up        start sites, or start again what ended; ends when everything is ready
  status    what runs, where, since when, with which kubeconfig (all instances without --name)
  down      end everything of an instance and remove it
  fault     do harm on purpose, or mend it (fault --help)

flags (environment variable, default)
  --name NAME         name of the instance (NAME, dev)
  --sites N           number of sites, 1 to 15 (SITES, 1)
  --nodes N           nodes per site, 1 to 15 (NODES, 2)
  --provider P        local: on this machine; kind: in Docker (PROVIDER, local)
  -o, --output FORMAT text or json, for up and status (text)
  -h, --help          this text

XTREEMOS_TOOLS_DIR   folder with ready programs; what it lacks is built once into the user's cache
XTREEMOS_SITES_DIR   where instances live (/var/lib/xtreemos-sites)`;

const report = (line: string): void => void process.stderr.write(`${line}\n`);

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      name: { type: 'string' },
      sites: { type: 'string', default: process.env.SITES ?? '1' },
      nodes: { type: 'string', default: process.env.NODES ?? '2' },
      provider: { type: 'string', default: process.env.PROVIDER ?? 'local' },
      output: { type: 'string', short: 'o', default: 'text' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  const [command, ...rest] = positionals;
  const given = values.name ?? process.env.NAME;
  const name = given ?? 'dev';
  if (values.help || command === undefined) {
    console.log(command === 'fault' ? faultHelp : help);
    return;
  }
  const provider = await chooseProvider(values.provider);
  if (provider === undefined) return;
  switch (command) {
    case 'up':
      await up(name, Number(values.sites), Number(values.nodes), values.output, provider);
      return;
    case 'status':
      await status(given === undefined ? instanceNames() : [given], values.output);
      return;
    case 'down':
      report((await provider.down(name, report)) ? `${name} is gone` : `There is no instance ${name}: nothing to do`);
      return;
    case 'fault':
      console.log(await runFault(await openInstance(name), rest));
      return;
    default:
      throw new TerminalError(`unknown command ${command}; see --help`);
  }
}

async function up(
  name: string,
  sites: number,
  nodes: number,
  output: string,
  provider: NonNullable<Awaited<ReturnType<typeof chooseProvider>>>,
): Promise<void> {
  const started = performance.now();
  const { kubeconfig, isWarm, group, status: found } = await provider.up({ name, sites, nodes, report });
  const readySeconds = Math.round((performance.now() - started) / 100) / 10;
  if (output === 'json') console.log(JSON.stringify(found, null, 2));
  else console.log(`${name} is ready. Next: export KUBECONFIG=${kubeconfig}; kubectl get nodes`);
  const memory = group === undefined ? undefined : memoryOf(group);
  const megabytes = (bytes?: number): number | undefined => (bytes === undefined ? undefined : Math.round(bytes / 1e6));
  const figure = {
    sites,
    nodes,
    warm: isWarm,
    ready_s: readySeconds,
    rss_mb: megabytes(memory?.residentBytes),
    pss_mb: megabytes(memory?.proportionalBytes),
  };
  console.log(`figure: ${JSON.stringify(figure)}`);
}

async function status(names: readonly string[], output: string): Promise<void> {
  const found: InstanceStatus[] = [];
  for (const name of names) {
    try {
      found.push(statusOf(await openInstance(name)));
    } catch (error) {
      // One damaged instance doesn't hide the others.
      report(describeError(error));
      process.exitCode = 1;
    }
  }
  if (output === 'json') console.log(JSON.stringify(found, null, 2));
  else if (found.length === 0) console.log('No sites on this machine. Start some: make sites');
  else console.log(found.map(renderStatus).join('\n'));
}

function renderStatus(instance: InstanceStatus): string {
  const lines = [
    `${instance.name}: ${instance.readyAt === '' ? 'not ready' : `ready since ${instance.readyAt}`}, ` +
      `${Math.round(instance.memory.residentBytes / 1e6)} MB resident`,
    `  kubeconfig ${instance.kubeconfig}`,
    ...instance.cuts.map(([a, b]) => `  cut between ${a} and ${b}`),
  ];
  for (const site of instance.sites) {
    lines.push(`  site ${site.name}  ${site.server}  gateway ${site.gatewayAddress}  audit log ${site.auditLog}`);
    for (const machine of site.machines) {
      lines.push(`    ${machine.name}  ${machine.address}  ${machine.isUp ? 'on' : 'off'}`);
      for (const each of machine.processes) {
        const state = each.isRunning ? `pid ${each.pid} since ${each.startedAt}` : 'not running';
        lines.push(`      ${each.name.padEnd(24)} ${state}  ${each.logPath}`);
      }
    }
  }
  return lines.join('\n');
}

try {
  await main();
} catch (error) {
  // Where it happened helps with our own faults; with the user's and the machine's it only distracts.
  const place = error instanceof Error && !(error instanceof TerminalError) ? `\n${error.stack ?? ''}` : '';
  report(`${describeError(error)}${place}`);
  process.exitCode = 1;
}
