import { escapeHtml } from '#common/html.ts';
import type { PeerStatus, StatusPage } from './status.ts';

const size = 640;
const centre = size / 2;
const inner = 56;
const outer = 272;

/**
 * The overlay from one node's point of view: the node in the middle, its links on rings, one ring per cell with links;
 * the farther the ring, the larger and more distant the cell. Green showed itself within 30 s, amber within 2 min.
 */
export function drawOverlay(page: StatusPage): string {
  const slots = [...new Set(page.overlay.links.map(({ slot }) => slot))].sort((a, b) => b - a);
  const rings = slots.map((slot, index) => {
    const radius = slots.length === 1 ? (inner + outer) / 2 : inner + ((outer - inner) * index) / (slots.length - 1);
    return { radius, links: page.overlay.links.filter((link) => link.slot === slot) };
  });
  const circles = rings.map(
    ({ radius }) => `<circle cx="${centre}" cy="${centre}" r="${radius.toFixed(1)}" class="ring"/>`,
  );
  const dots = rings.flatMap(({ radius, links }, ring) =>
    links.map((link, i) => drawLink(link, radius, ring, i, links.length)),
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${size} ${size}" role="img" aria-label="Links of ${escapeHtml(page.node.id)}">
<style>.ring{fill:none;stroke:#d8dee4}.edge{stroke:#c4ccd4}text{font:10px system-ui,sans-serif;fill:#3e4c59}.fresh{fill:#2e7d32}.aging{fill:#c77700}.old{fill:#b42318}.self{fill:#0b5cad}</style>
${circles.join('')}${dots.join('')}<circle cx="${centre}" cy="${centre}" r="9" class="self"/>
<text x="${centre}" y="${centre + 22}" text-anchor="middle">${escapeHtml(page.node.id)}</text></svg>`;
}

function drawLink(link: PeerStatus, radius: number, ring: number, index: number, count: number): string {
  // Each ring is turned a little further, so that labels of neighbouring rings don't meet.
  const angle = ring * 0.9 + (2 * Math.PI * index) / count;
  const x = centre + radius * Math.cos(angle);
  const y = centre + radius * Math.sin(angle);
  const age = link.isSuspect || link.ageMs > 120_000 ? 'old' : link.ageMs > 30_000 ? 'aging' : 'fresh';
  const anchor = x > size - 110 ? 'end' : x < 110 ? 'start' : 'middle';
  const label = `${link.cell} ${shorten(link.id)}`;
  return (
    `<line x1="${centre}" y1="${centre}" x2="${x.toFixed(1)}" y2="${y.toFixed(1)}" class="edge"/>` +
    `<circle cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="5" class="${age}"><title>${escapeHtml(link.id)}</title></circle>` +
    `<text x="${x.toFixed(1)}" y="${(y - 8).toFixed(1)}" text-anchor="${anchor}">${escapeHtml(label)}</text>`
  );
}

function shorten(id: string): string {
  return id.length <= 22 ? id : `${id.slice(0, 10)}…${id.slice(-10)}`;
}
