/** Makes the command line out of the declarations, with commander (ADR 0095). */
import { Command, CommanderError, Option } from 'commander';
import { flagOf } from '#common/options.ts';
import type { AnyCommand, Area, OptionDefinition } from './command.ts';
import type { Context } from './context.ts';
import { endingOf, exitStatuses } from './exit.ts';

const about = `Runs jobs on every cluster (site) of your virtual organizations, and works with organizations and members.
Also a kubectl plugin: kubectl xos.`;

/** What is shown below the commands of the root. */
const footer = (program: string): string => `
Start here:
  $ ${program} login                    # log in at the gateway of a site
  $ ${program} vo list                  # see the virtual organizations
  $ ${program} run IMAGE -- COMMAND     # run something, wherever there is room
  $ ${program} COMMAND --help           # how a command is used, with examples

Completion for your shell: ${program} completion --help
Exit statuses: ${Object.entries(exitStatuses)
  .map(([reason, { code }]) => `${code} ${flagOf(reason)}`)
  .join(', ')}.`;

/**
 * Parses the words and runs what they name.
 * @param argv - the words after the program's name.
 * @returns the exit status; every failure has been shown.
 */
export async function runProgram(
  argv: readonly string[],
  context: Context,
  isInterrupted: () => boolean,
): Promise<number> {
  let status: number | undefined;
  const program = buildProgram(context, (code) => (status = code));
  try {
    await program.parseAsync([...rewritten(argv, context.areas)], { from: 'user' });
    return status ?? 0;
  } catch (error) {
    if (error instanceof CommanderError) return endOfParsing(error, context);
    const ending = endingOf(error, isInterrupted());
    context.terminal.error(ending.message, ending.remedy);
    return ending.code;
  } finally {
    context.terminal.clear();
  }
}

function rewritten(argv: readonly string[], areas: readonly Area[]): readonly string[] {
  for (const { path, rewrite } of areas.flatMap(({ commands }) => commands)) {
    const length = path.split(' ').length;
    if (rewrite === undefined || argv.slice(0, length).join(' ') !== path) continue;
    return [...argv.slice(0, length), ...rewrite(argv.slice(length))];
  }
  return argv;
}

/** Help and version end parsing too; of a group named without a command, commander showed the help on stderr. */
function endOfParsing(error: CommanderError, context: Context): number {
  if (error.exitCode === 0) return 0;
  if (error.code !== 'commander.help') context.terminal.error(error.message.replace(/^error: /, ''));
  return exitStatuses.usage.code;
}

function buildProgram(context: Context, finish: (status: number | undefined) => void): Command {
  const root = new Command('xos')
    .usage('COMMAND [options]')
    .description(about)
    .version(context.version, '-V, --version', 'Show the version')
    .helpOption('-h, --help', 'Show how it is used')
    .helpCommand(false)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => context.terminal.print(text),
      writeErr: (text) => context.terminal.say(text.trimEnd()),
      // Shown once, by endOfParsing.
      outputError: () => undefined,
    })
    .addHelpText('after', footer(context.program));
  for (const area of context.areas) {
    const parent = area.group === undefined ? root : groupUnder(root, area.group.path, area.group.about);
    for (const definition of area.commands) {
      const command = commandOf(definition, context, finish).copyInheritedSettings(root);
      if (area.title !== undefined) command.helpGroup(`${area.title}:`);
      parent.addCommand(command, { hidden: definition.isHidden === true });
    }
  }
  return root;
}

function groupUnder(root: Command, name: string, description: string): Command {
  const group = root.command(name).usage('COMMAND [options]').description(description).helpCommand(false);
  return group.copyInheritedSettings(root);
}

function commandOf(definition: AnyCommand, context: Context, finish: (status: number | undefined) => void): Command {
  const name = definition.path.split(' ').at(-1) ?? definition.path;
  const command = new Command(name).description(definition.about);
  if (definition.details !== undefined) command.description(`${definition.about}.\n\n${definition.details}`);
  command.summary(definition.about);
  for (const [key, argument] of Object.entries(definition.args)) {
    const shown = `${argumentName(key)}${argument.isVariadic ? '...' : ''}`;
    command.argument(argument.isRequired ? `<${shown}>` : `[${shown}]`, argument.about);
  }
  for (const [key, option] of Object.entries(definition.options)) command.addOption(optionOf(key, option));
  const lines = definition.examples.map(({ does, line }) => `  # ${does}\n  $ ${context.program} ${line}`);
  command.addHelpText('after', `\nExamples:\n${lines.join('\n\n')}`);
  return command.action(async (...given: unknown[]) => {
    // commander calls with each argument, then the options, then the command.
    const values = given.slice(0, -2);
    const options = given.at(-2) as Record<string, unknown>;
    const input: Record<string, unknown> = {};
    Object.keys(definition.args).forEach((key, index) => (input[key] = values[index]));
    for (const [key, option] of Object.entries(definition.options)) input[key] = options[key] ?? option.fallback;
    const run = await definition.load();
    const status: unknown = await run(context, input as never);
    finish(typeof status === 'number' ? status : undefined);
  });
}

function optionOf(key: string, definition: OptionDefinition<unknown>): Option {
  const { short, placeholder, about: meaning, choices, shownDefault } = definition;
  const long = `--${flagOf(key)}`;
  const flags = `${short === undefined ? '' : `-${short}, `}${long}${placeholder === undefined ? '' : ` <${placeholder}>`}`;
  const words = choices === undefined ? '' : ` (${choices.join(', ')})`;
  const preset = shownDefault === undefined ? '' : ` (default: ${shownDefault})`;
  const option = new Option(flags, `${meaning}${words}${preset}`);
  if (placeholder === undefined) return option;
  return option.argParser((word: string, previous: unknown) => {
    const value = definition.parse(word, long);
    return definition.isRepeatable ? [...((previous as unknown[] | undefined) ?? []), ...(value as unknown[])] : value;
  });
}

/** `groupName` → `GROUP-NAME`. */
export function argumentName(key: string): string {
  return flagOf(key).toUpperCase();
}
