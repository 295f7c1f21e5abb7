/** The programs of a node for volumes: node agent, mount holder, CSI controller. `node nodeagent/main.ts PROGRAM --help`. */
import { describeError, InvalidInputError } from '#common/errors.ts';
import { createLogger, type Logger, type logLevels } from '#common/logger.ts';
import { helpText, type OptionSpecs, type OptionValues, parseOptions } from '#common/options.ts';
import { terminationSignal } from '#runtime/signals.ts';
import { agentOptions, controllerOptions, holderOptions } from './options.ts';
import { runAgent, runController, runHolder } from './programs.ts';

interface Program {
  readonly about: string;
  readonly options: OptionSpecs;
  run(argv: readonly string[], signal: AbortSignal): Promise<void>;
}

type Logged = OptionSpecs & { readonly logLevel: (typeof agentOptions)['logLevel'] };

function program<S extends Logged>(
  name: string,
  about: string,
  options: S,
  run: (values: OptionValues<S>, logger: Logger, signal: AbortSignal) => Promise<void>,
): Program {
  return {
    about,
    options,
    run: async (argv, signal) => {
      const { values } = parseOptions(options, argv, process.env);
      const { logLevel } = values as { readonly logLevel: (typeof logLevels)[number] };
      await run(values, createLogger({ name, level: logLevel }), signal);
    },
  };
}

const programs: Readonly<Record<string, Program>> = {
  agent: program(
    'node-agent',
    'Serves the kubelet of this node as CSI driver; holds no mount.',
    agentOptions,
    runAgent,
  ),
  'mount-holder': program(
    'mount-holder',
    'Makes and keeps the mounts of volumes on this node.',
    holderOptions,
    runHolder,
  ),
  'csi-controller': program(
    'csi-controller',
    'Makes Volumes for PersistentVolumeClaims, asked by external-provisioner.',
    controllerOptions,
    runController,
  ),
};

async function main([name = '', ...argv]: readonly string[]): Promise<number> {
  const found = Object.hasOwn(programs, name) ? programs[name] : undefined;
  if (found === undefined) {
    const list = Object.entries(programs).map(([each, { about }]) => `  ${each.padEnd(16)} ${about}`);
    process.stdout.write(`Usage: nodeagent PROGRAM [options]\n\nPrograms (each has --help):\n${list.join('\n')}\n`);
    return name === '' || name === '--help' ? 0 : 2;
  }
  if (argv.includes('--help')) {
    process.stdout.write(helpText(`nodeagent ${name} [options]`, found.about, found.options));
    return 0;
  }
  // Sockets and files of ours are for root of the node alone.
  process.umask(0o077);
  const stop = terminationSignal();
  try {
    await found.run(argv, stop.signal);
    return 0;
  } catch (error) {
    if (stop.signal.aborted) return 0;
    throw error;
  } finally {
    stop.dispose();
  }
}

try {
  process.exit(await main(process.argv.slice(2)));
} catch (error) {
  process.stderr.write(`nodeagent: ${describeError(error)}\n`);
  process.exit(error instanceof InvalidInputError ? 2 : 1);
}
