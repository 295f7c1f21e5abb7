import { escapeHtml } from '#common/html.ts';

/** A table on a status page. */
export interface StatusSection {
  readonly title: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly (string | number | boolean)[])[];
}

/** What a server shows of itself. */
export interface StatusPage {
  readonly title: string;
  readonly sections: readonly StatusSection[];
}

/** Styles of every page; the server names their hash in its content security policy. */
export const pageStyle =
  'body{font:15px/1.45 system-ui,sans-serif;margin:2rem;color:#1b1f24;background:#fff}' +
  'h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}' +
  'table{border-collapse:collapse}th,td{border-bottom:1px solid #d0d7de;padding:.25rem .9rem .25rem 0;text-align:left;' +
  'vertical-align:top}@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}th,td{border-color:#30363d}}';

/** The page for people. Every value is escaped. */
export function renderHtml(page: StatusPage): string {
  const sections = page.sections.map(({ title, columns, rows }) => {
    const head = columns.map((column) => `<th scope="col">${escapeHtml(column)}</th>`).join('');
    const body = rows.map((row) => `<tr>${row.map((cell) => `<td>${escapeHtml(String(cell))}</td>`).join('')}</tr>\n`);
    const table = `<table><thead><tr>${head}</tr></thead>\n<tbody>\n${body.join('')}</tbody></table>`;
    return `<section><h2>${escapeHtml(title)}</h2>\n${rows.length === 0 ? '<p>None.</p>' : table}</section>`;
  });
  const title = escapeHtml(page.title);
  return (
    `<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>${title}</title>` +
    `<meta name="viewport" content="width=device-width"><style>${pageStyle}</style></head>\n` +
    `<body><h1>${title}</h1>\n${sections.join('\n')}\n</body></html>\n`
  );
}

/** The page for programs: one object a row, by column. */
export function renderJson(page: StatusPage): string {
  const sections = page.sections.map(({ title, columns, rows }) => ({
    title,
    rows: rows.map((row) => Object.fromEntries(columns.map((column, index) => [column, row[index] ?? null]))),
  }));
  return `${JSON.stringify({ title: page.title, sections }, undefined, 2)}\n`;
}
