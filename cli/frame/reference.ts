/** The reference of the command line in markdown, made from the declarations. */
import { flagOf } from '#common/options.ts';
import type { AnyCommand, Area } from './command.ts';
import { exitStatuses } from './exit.ts';
import { argumentName } from './program.ts';

/** The page: exit statuses, then every command with its arguments, options and examples. */
export function referencePage(areas: readonly Area[]): string {
  const statuses = Object.values(exitStatuses).map(({ code, about }) => `| ${code} | ${about} |`);
  const parts = [
    '# xos',
    'Every command of `xos`; as a kubectl plugin, `kubectl xos`. [The guide](../cli.md) says how they work together.',
    ['| exit status | meaning |', '| --- | --- |', ...statuses].join('\n'),
    ...areas.flatMap((area) => [
      `## ${area.title ?? `xos ${area.group?.path ?? ''}`}`,
      ...(area.group === undefined ? [] : [`${area.group.about}.`]),
      ...area.commands.filter(({ isHidden }) => isHidden !== true).flatMap(sectionOf),
    ]),
  ];
  return `${parts.join('\n\n')}\n`;
}

function sectionOf(command: AnyCommand): string[] {
  const args = Object.entries(command.args);
  const usage = args.map(([key, { isRequired, isVariadic }]) => {
    const name = `${argumentName(key)}${isVariadic ? '...' : ''}`;
    return isRequired ? name : `[${name}]`;
  });
  const rows = [
    ...args.map(([key, { about }]) => `| \`${argumentName(key)}\` | ${cell(about)} |`),
    ...Object.entries(command.options).map(([key, option]) => {
      const short = option.short === undefined ? '' : `-${option.short}, `;
      const value = option.placeholder === undefined ? '' : ` ${option.placeholder}`;
      const words = option.choices === undefined ? '' : ` One of ${option.choices.map((w) => `\`${w}\``).join(', ')}.`;
      const preset = option.shownDefault === undefined ? '' : ` Default \`${option.shownDefault}\`.`;
      return `| \`${short}--${flagOf(key)}${value}\` | ${cell(option.about)}.${words}${preset} |`;
    }),
  ];
  const examples = command.examples.map(({ does, line }) => `# ${does}\nxos ${line}`);
  return [
    `### xos ${command.path}`,
    `${command.about}.${command.details === undefined ? '' : `\n\n${command.details}`}`,
    `\`\`\`sh\nxos ${[command.path, ...usage, '[options]'].join(' ')}\n\`\`\``,
    ...(rows.length === 0 ? [] : [['| argument, option | meaning |', '| --- | --- |', ...rows].join('\n')]),
    `\`\`\`sh\n${examples.join('\n\n')}\n\`\`\``,
  ];
}

/** Text inside a table cell: a bar would end it. */
function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('\n', ' ');
}
