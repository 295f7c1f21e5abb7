/** Pages of the gateway for people: no scripts, nothing from elsewhere, and everything that somebody else said is escaped (threat 54). */
import { createHash } from 'node:crypto';
import { escapeHtml } from '#common/html.ts';
import type { Refusal } from '../refusal.ts';

const style = `:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;margin:3rem auto;max-width:44rem;padding:0 1rem}
h1{font-size:1.5rem;margin:0 0 1rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.4rem .8rem .4rem 0;border-bottom:1px solid #8884;vertical-align:top;overflow-wrap:break-word}
th{font-weight:600;width:11rem}thead th{width:auto}
.code{font:600 1.8rem/1 ui-monospace,monospace;letter-spacing:.1em;margin:1rem 0}
.warning{border-left:4px solid #c2410c;padding:.6rem 1rem;background:#c2410c1a;margin:1.5rem 0}
form{margin:1.5rem 0;display:flex;gap:1rem;flex-wrap:wrap;align-items:end}
input,button{font:inherit;padding:.5rem 1.2rem;border:1px solid #8888;border-radius:6px}
button.go{background:#1d4ed8;border-color:#1d4ed8;color:#fff}label{display:grid;gap:.3rem}`;

const styleDigest = createHash('sha256').update(style).digest('base64');

/** Headers of every page: nothing runs in it, nobody frames it, and forms tell this gateway alone where they come from. */
export const pageHeaders: Readonly<Record<string, string>> = {
  'content-type': 'text/html; charset=utf-8',
  // After a form the browser is sent on to the provider, which counts as its action.
  'content-security-policy': `default-src 'none'; style-src 'sha256-${styleDigest}'; form-action 'self' https:; frame-ancestors 'none'; base-uri 'none'`,
  'x-frame-options': 'DENY',
  'referrer-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
};

/** A whole page. @param content - HTML. */
export function page(title: string, content: string): string {
  const heading = escapeHtml(title);
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${heading}</title><style>${style}</style></head><body><main>
<h1>${heading}</h1>
${content}
</main></body></html>
`;
}

/** A table of names and what is said of them. */
export function facts(rows: readonly (readonly [name: string, text: string])[]): string {
  const lines = rows.map(
    ([name, text]) => `<tr><th scope="row">${escapeHtml(name)}</th><td>${escapeHtml(text)}</td></tr>`,
  );
  return `<table>${lines.join('\n')}</table>`;
}

/** What somebody is told who opened a page in vain. */
export function refusalPage({ message }: Refusal): string {
  return page('This does not work', `<p>${escapeHtml(message)}</p>\n<p><a href="/device">Type a code</a></p>`);
}
