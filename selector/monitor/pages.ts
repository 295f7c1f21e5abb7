import { createServer, type Server, type ServerResponse } from 'node:http';
import { escapeHtml } from '#common/html.ts';
import { drawOverlay } from './picture.ts';
import type { StatusPage } from './status.ts';

const style = `body{font:14px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#1c2733;background:#fff}
h1{font-size:1.4rem}h2{font-size:1.05rem;margin-top:2rem}table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #d8dee4;font-variant-numeric:tabular-nums;vertical-align:top}
th{font-weight:600;color:#52606d}code{font-size:.92em;overflow-wrap:anywhere}.late{color:#b42318}.note{color:#52606d}
svg{display:block;width:100%;max-width:44rem;height:auto;border:1px solid #d8dee4;border-radius:6px}`;

/**
 * The monitor pages: `/` for people, `/status.json` for programs, `/overlay.svg` the picture, `/healthz`. Read-only,
 * without scripts. @param status - gathers the page anew for each request.
 */
export class MonitorServer {
  private readonly server: Server;

  constructor(status: () => StatusPage) {
    this.server = createServer({ maxHeaderSize: 8_192, requestTimeout: 5_000 }, (request, response) => {
      if (request.method !== 'GET' && request.method !== 'HEAD') {
        reply(response, 405, 'text/plain', 'Only GET is answered here\n');
        return;
      }
      switch ((request.url ?? '/').split('?')[0]) {
        case '/': {
          reply(response, 200, 'text/html; charset=utf-8', renderPage(status()));
          return;
        }
        case '/status.json': {
          reply(response, 200, 'application/json', JSON.stringify(status(), null, 1));
          return;
        }
        case '/overlay.svg': {
          reply(response, 200, 'image/svg+xml', drawOverlay(status()));
          return;
        }
        case '/healthz': {
          reply(response, 200, 'text/plain', 'ok\n');
          return;
        }
        default: {
          reply(response, 404, 'text/plain', 'Pages: / /status.json /overlay.svg /healthz\n');
          return;
        }
      }
    });
    this.server.maxConnections = 64;
  }

  /** Listens. @returns the port. */
  async listen(host: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.server.once('error', reject);
      this.server.listen(port, host, () => {
        const address = this.server.address();
        resolve(typeof address === 'object' && address !== null ? address.port : port);
      });
    });
  }

  stop(): void {
    this.server.close();
    this.server.closeAllConnections();
  }
}

/** The page for people. Everything a peer said is escaped (threat 54). */
export function renderPage(page: StatusPage): string {
  const { node, overlay, ledger, live } = page;
  const links = overlay.links.map((link) =>
    row([
      escapeHtml(link.cell),
      `<code>${escapeHtml(link.id)}</code>`,
      escapeHtml(link.address),
      link.isSuspect ? '<span class="late">suspect</span>' : seconds(link.ageMs),
      escapeHtml(attributesText(link.attributes)),
    ]),
  );
  const claims = ledger.claims.map((claim) =>
    row([
      escapeHtml(claim.id),
      escapeHtml(claim.owner),
      escapeHtml(claim.stage),
      escapeHtml(attributesText(claim.demand)),
    ]),
  );
  const facts: [string, string][] = [
    ['Address', escapeHtml(node.address)],
    ['Started', new Date(node.incarnation).toISOString()],
    ['Attributes', escapeHtml(attributesText(node.attributes))],
    ['Nodes, about', String(overlay.nodeCount)],
    ['Queries in flight', String(overlay.queriesInFlight)],
    ['Cell borders', `<code>${overlay.borders.id}</code>${overlay.borders.isSettling ? ' (settling)' : ''}`],
    ['Suspects, buried', `${overlay.suspects}, ${overlay.buried}`],
    ['Dropped descriptors', escapeHtml(attributesText({ ...overlay.dropped }))],
    ['Free', escapeHtml(attributesText(ledger.free))],
    ['Live', escapeHtml(attributesText(live))],
  ];
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="10"><title>Selector ${escapeHtml(node.id)}</title><style>${style}</style></head><body>
<h1>Selector <code>${escapeHtml(node.id)}</code></h1>
<table>${facts.map(([name, value]) => `<tr><th scope="row">${name}</th><td>${value}</td></tr>`).join('')}</table>
<h2>Overlay as seen from here</h2>${drawOverlay(page)}
<p class="note">Rings are levels of cells, the nearest cells in the middle; a dot is a link, its colour the time since it showed itself.</p>
<h2>Links (${links.length})</h2>${table(['Cell', 'Node', 'Address', 'Heard of', 'Attributes'], links, 'No links yet: give --peers.')}
<h2>Claims (${claims.length})</h2>${table(['Claim', 'Owner', 'Stage', 'Amount'], claims, 'Nothing is held or claimed here.')}
</body></html>`;
}

function reply(response: ServerResponse, code: number, type: string, body: string): void {
  response.writeHead(code, {
    'content-type': type,
    'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'",
    'x-content-type-options': 'nosniff',
    'cache-control': 'no-store',
  });
  response.end(body);
}

function table(heads: readonly string[], rows: readonly string[], empty: string): string {
  if (rows.length === 0) return `<p class="note">${empty}</p>`;
  return `<table><tr>${heads.map((head) => `<th scope="col">${head}</th>`).join('')}</tr>${rows.join('')}</table>`;
}

function row(cells: readonly string[]): string {
  return `<tr>${cells.map((cell) => `<td>${cell}</td>`).join('')}</tr>`;
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1_000)} s ago`;
}

function attributesText(values: Readonly<Record<string, number | string>>): string {
  return Object.entries(values)
    .map(([name, value]) => `${name} ${typeof value === 'number' ? Number(value.toPrecision(6)) : value}`)
    .join(', ');
}
