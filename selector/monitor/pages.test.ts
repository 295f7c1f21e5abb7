import { expect, test } from '@jest/globals';
import { MonitorServer, renderPage } from './pages.ts';
import { drawOverlay } from './picture.ts';
import type { StatusPage } from './status.ts';

const evil = '"><script>alert(1)</script>';

function aPage(name: string): StatusPage {
  const link = {
    id: name,
    address: 'h:1',
    cell: 'N(5,0)',
    slot: 0,
    ageMs: 1_000,
    isSuspect: false,
    attributes: { a: name },
  };
  return {
    node: { id: name, address: 'h:1', incarnation: 0, attributes: { os: name }, cells: [1] },
    overlay: {
      ...{ nodeCount: 2, links: [link, { ...link, slot: 3, isSuspect: true }], randomView: [], suspects: 1, buried: 0 },
      borders: { id: 'b', mintedAt: 0, isSettling: false, axes: [] },
      ...{
        lostAddresses: [],
        dropped: { unsigned: 0, stale: 0, future: 0, buried: 0 },
        queriesInFlight: 0,
      },
    },
    ledger: {
      free: { cpu: 1 },
      claims: [{ id: name, owner: name, stage: 'Held', demand: { cpu: 1 }, startMs: 0, endMs: null }],
    },
    live: { load1: 1 },
  };
}

test('what a peer says of itself reaches the page and the picture only escaped (threat 54)', () => {
  for (const text of [renderPage(aPage(evil)), drawOverlay(aPage(evil))]) {
    expect(text).toContain('&#60;');
    expect(text).not.toContain('<script');
  }
});

test('a node without links and claims says what to do', () => {
  const page = aPage('s/n');
  const empty = { ...page, overlay: { ...page.overlay, links: [] }, ledger: { free: {}, claims: [] } };
  expect(renderPage(empty)).toContain('No links yet: give --peers.');
});

test('serves its pages and refuses everything else', async () => {
  const server = new MonitorServer(() => aPage('s/n'));
  const port = await server.listen('127.0.0.1', 0);
  const get = async (path: string, method = 'GET'): Promise<[number, string | null]> => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, { method });
    await response.arrayBuffer();
    return [response.status, response.headers.get('content-type')];
  };
  expect(await get('/')).toEqual([200, 'text/html; charset=utf-8']);
  expect(await get('/status.json')).toEqual([200, 'application/json']);
  expect(await get('/overlay.svg')).toEqual([200, 'image/svg+xml']);
  expect(await get('/healthz')).toEqual([200, 'text/plain']);
  expect((await get('/etc/passwd'))[0]).toBe(404);
  expect((await get('/', 'POST'))[0]).toBe(405);
  server.stop();
});
