import type { KubeObject } from '#runtime/types.ts';
import type { OutputFormat } from '../frame/options.ts';
import { escapeControls, escapeInQuotes, hasControls } from './escape.ts';
import { type Column, formatTable } from './table.ts';
import type { Terminal } from './terminal.ts';

/** What is said after a change that was only tried. */
export function dryRunNote(dryRun: boolean): string {
  return dryRun ? ' (dry run: nothing was changed)' : '';
}

/** How objects of one kind are printed. */
export interface Printing<T extends KubeObject> {
  /** For `-o name`, for example `virtualorganization.xtreemos.io`. */
  readonly resource: string;
  readonly columns: readonly Column<T>[];
}

/** Prints several objects; an empty table prints nothing, so that `xos … | wc -l` counts. */
export async function printList<T extends KubeObject>(
  terminal: Terminal,
  format: OutputFormat,
  items: readonly T[],
  printing: Printing<T>,
): Promise<void> {
  if (format === 'json' || format === 'yaml') {
    const list = { apiVersion: 'v1', kind: 'List', items: items.map(withoutNoise) };
    terminal.print(await serialize(format, list));
  } else if (items.length > 0) {
    terminal.print(textOf(terminal, format, items, printing));
  }
}

/** Prints one object. */
export async function printObject<T extends KubeObject>(
  terminal: Terminal,
  format: OutputFormat,
  object: T,
  printing: Printing<T>,
): Promise<void> {
  if (format === 'json' || format === 'yaml') terminal.print(await serialize(format, withoutNoise(object)));
  else terminal.print(textOf(terminal, format, [object], printing));
}

/** JSON or YAML that reads back as the value, and that no terminal obeys. */
export async function serialize(format: 'json' | 'yaml', value: unknown): Promise<string> {
  if (format === 'json') return escapeInQuotes(JSON.stringify(value, undefined, 2));
  const { Document, visit } = await import('yaml');
  const document = new Document(value, { aliasDuplicateObjects: false });
  visit(document, {
    Scalar: (_key, node) => {
      if (typeof node.value !== 'string') return;
      if (hasControls(node.value.replaceAll('\n', ''))) node.type = 'QUOTE_DOUBLE';
    },
  });
  return escapeInQuotes(document.toString({ lineWidth: 0 }));
}

function textOf<T extends KubeObject>(
  terminal: Terminal,
  format: OutputFormat,
  items: readonly T[],
  printing: Printing<T>,
): string {
  if (format === 'name') {
    return items.map(({ metadata }) => `${printing.resource}/${escapeControls(metadata.name)}`).join('\n');
  }
  const heading = (text: string): string => terminal.heading(text);
  return formatTable(items, printing.columns, { isWide: format === 'wide', heading });
}

/** Without what only the API server cares for. */
function withoutNoise<T extends KubeObject>(object: T): T {
  return { ...object, metadata: { ...object.metadata, managedFields: undefined } };
}
