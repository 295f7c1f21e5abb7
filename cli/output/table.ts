import { escapeControls } from './escape.ts';

/** One column of a table. */
export interface Column<T> {
  readonly name: string;
  /** Shown by `-o wide` only. */
  readonly isWide?: boolean;
  value(item: T): string | number | undefined;
}

/** Wider cells are cut, except in the last column: a name of 10,000 characters must not hide the others. */
const cellWidthMax = 64;

/** The rows under their headings, in columns three spaces apart, as kubectl prints them. Foreign text is escaped. */
export function formatTable<T>(
  items: readonly T[],
  columns: readonly Column<T>[],
  options: { readonly isWide: boolean; heading?(text: string): string },
): string {
  const shown = columns.filter((column) => column.isWide !== true || options.isWide);
  const rows = items.map((item) => shown.map((column) => cellOf(column.value(item))));
  const widths = shown.map((column, index) =>
    Math.max(column.name.length, ...rows.map((row) => Math.min(lengthOf(row[index] ?? ''), cellWidthMax))),
  );
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, index) => (index === cells.length - 1 ? cell : pad(cut(cell, options.isWide), widths[index] ?? 0)))
      .join('   ')
      .trimEnd();
  const heading = line(shown.map(({ name }) => name.toUpperCase()));
  return [options.heading?.(heading) ?? heading, ...rows.map(line)].join('\n');
}

/** Names and values, one a line, values in one column. */
export function formatFacts(facts: readonly (readonly [name: string, value: string | undefined])[]): string {
  const shown = facts.filter(([, value]) => value !== undefined && value !== '');
  const width = Math.max(...shown.map(([name]) => name.length)) + 1;
  return shown
    .map(([name, value]) => {
      const [first = '', ...rest] = escapeControls(value ?? '', '\n').split('\n');
      return [`${`${name}:`.padEnd(width)}  ${first}`, ...rest.map((more) => `${' '.repeat(width)}  ${more}`)].join(
        '\n',
      );
    })
    .join('\n');
}

function cellOf(value: string | number | undefined): string {
  if (value === undefined || value === '') return '-';
  return escapeControls(String(value));
}

function cut(cell: string, isWide: boolean): string {
  const characters = Array.from(cell);
  return isWide || characters.length <= cellWidthMax ? cell : `${characters.slice(0, cellWidthMax - 1).join('')}…`;
}

const lengthOf = (text: string): number => Array.from(text).length;
const pad = (text: string, width: number): string => text + ' '.repeat(Math.max(0, width - lengthOf(text)));
