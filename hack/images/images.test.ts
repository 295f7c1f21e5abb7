import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';

import { type LayerEntry, withParents } from './layer.ts';
import { blobPath, type ImageRecipe, readIndex, writeArchive, writeLayout } from './layout.ts';
import { parsePushTarget, pushLayout } from './push.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'images-test-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

function aRecipe(change: Partial<ImageRecipe> = {}): ImageRecipe {
  const source = join(dir, 'program');
  writeFileSync(source, 'a program', { mode: 0o700 });
  const layer: LayerEntry[] = [
    { type: 'file', path: '/usr/bin/program', source },
    { type: 'link', path: '/bin/alias', target: '../usr/bin/program' },
    { type: 'content', path: '/etc/name', content: 'value\n' },
    { type: 'directory', path: '/tmp', mode: 0o1777 },
  ];
  return {
    name: 'xtreemos.io/test:1',
    layers: [layer],
    entrypoint: ['/usr/bin/program'],
    user: '65532:65532',
    ...change,
  };
}

describe('an image layout', () => {
  test('has the same digest twice, whatever the order of its entries and the age of its files', async () => {
    const [first] = await writeLayout(join(dir, 'one'), [aRecipe()]);
    const recipe = aRecipe();
    utimesSync(join(dir, 'program'), 1, 1);
    const [second] = await writeLayout(join(dir, 'two'), [
      { ...recipe, layers: recipe.layers.map((layer) => [...layer].reverse()) },
    ]);
    expect(second).toEqual(first);
    expect(readFileSync(join(dir, 'one/index.json'))).toEqual(readFileSync(join(dir, 'two/index.json')));
  });

  test('has another digest when a file changes', async () => {
    const [first] = await writeLayout(join(dir, 'one'), [aRecipe()]);
    const [second] = await writeLayout(join(dir, 'two'), [
      aRecipe({ layers: [[{ type: 'content', path: '/etc/name', content: 'other\n' }]] }),
    ]);
    expect(second?.digest).not.toBe(first?.digest);
  });

  test('names every blob by its content', async () => {
    await writeLayout(join(dir, 'layout'), [aRecipe()]);
    const blobs = join(dir, 'layout/blobs/sha256');
    for (const name of readdirSync(blobs)) {
      expect(createHash('sha256').update(readFileSync(join(blobs, name))).digest('hex')).toBe(name); // prettier-ignore
    }
    expect(readdirSync(blobs)).toHaveLength(3);
  });

  test('stores a layer that two images share once', async () => {
    const recipe = aRecipe();
    await writeLayout(join(dir, 'layout'), [
      recipe,
      { ...recipe, name: 'xtreemos.io/other:1', entrypoint: ['/bin/alias'] },
    ]);
    expect(readdirSync(join(dir, 'layout/blobs/sha256'))).toHaveLength(5);
  });

  test('tells a non-root user as a number, so that runAsNonRoot can be checked', async () => {
    const [image] = await writeLayout(join(dir, 'layout'), [aRecipe()]);
    const manifest = JSON.parse(readFileSync(blobPath(join(dir, 'layout'), image!.digest), 'utf8')) as {
      config: { digest: string };
    };
    const config = JSON.parse(readFileSync(blobPath(join(dir, 'layout'), manifest.config.digest), 'utf8')) as object;
    expect(config).toMatchObject({ os: 'linux', config: { User: '65532:65532', Entrypoint: ['/usr/bin/program'] } });
  });

  test('packs into the same archive twice', async () => {
    await writeLayout(join(dir, 'layout'), [aRecipe()]);
    await writeArchive(join(dir, 'layout'), join(dir, 'one.tar'));
    await writeArchive(join(dir, 'layout'), join(dir, 'two.tar'));
    expect(readFileSync(join(dir, 'one.tar'))).toEqual(readFileSync(join(dir, 'two.tar')));
  });
});

describe('a layer', () => {
  test('gets the folders that lead to its files, sorted', () => {
    const entries = withParents([{ type: 'content', path: '/b/c/d', content: '' }, { type: 'directory', path: '/a' }]); // prettier-ignore
    expect(entries.map(({ path }) => path)).toEqual(['/a', '/b', '/b/c', '/b/c/d']);
  });

  test.each<[string, LayerEntry[], RegExp]>([
    ['a relative path', [{ type: 'directory', path: 'a' }], /must be an absolute path/],
    ['a path that climbs', [{ type: 'directory', path: '/a/../b' }], /must be an absolute path/],
    ['a file given twice', ['1', '2'].map((content) => ({ type: 'content', path: '/a', content })), /\/a: is given twice/],
    [
      'a file below a file',
      [{ type: 'content', path: '/a', content: '' }, { type: 'content', path: '/a/b', content: '' }],
      /\/a is not a directory/,
    ],
  ])('refuses %s', (_what, entries, message) => {
    expect(() => withParents(entries)).toThrow(message);
  }); // prettier-ignore
});

/** A registry in this process: what `pushLayout` needs of the distribution API, with a token service. */
class FakeRegistry {
  readonly blobs = new Map<string, Buffer>();
  readonly manifests = new Map<string, Buffer>();
  uploads = 0;
  private server: Server | undefined;

  async start(token?: string): Promise<string> {
    const server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const { port } = server.address() as AddressInfo;
        const url = new URL(request.url ?? '/', `http://127.0.0.1:${port}`);
        const answer = (status: number, headers: Record<string, string> = {}, body = ''): void => {
          response.writeHead(status, headers).end(body);
        };
        if (url.pathname === '/token') answer(200, {}, JSON.stringify({ token }));
        else if (token !== undefined && request.headers.authorization !== `Bearer ${token}`) {
          answer(401, { 'www-authenticate': `Bearer realm="http://127.0.0.1:${port}/token",service="fake"` });
        } else this.serve(request.method ?? '', url, Buffer.concat(chunks), answer);
      });
    });
    this.server = server;
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return `127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    const { server } = this;
    if (server === undefined) return;
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }

  private serve(
    method: string,
    url: URL,
    body: Buffer,
    answer: (status: number, headers?: Record<string, string>, body?: string) => void,
  ): void {
    const [, digest = ''] = /\/blobs\/(sha256:[0-9a-f]+)$/.exec(url.pathname) ?? [];
    if (method === 'HEAD') answer(this.blobs.has(digest) ? 200 : 404);
    else if (method === 'POST' && url.pathname.endsWith('/blobs/uploads/')) {
      // A relative place with a query of its own, as registries give it.
      answer(202, { location: `${url.pathname}${this.uploads++}?state=opaque` });
    } else if (method === 'PUT' && url.pathname.includes('/blobs/uploads/')) {
      const wanted = url.searchParams.get('digest') ?? '';
      const found = `sha256:${createHash('sha256').update(body).digest('hex')}`;
      if (wanted !== found || url.searchParams.get('state') !== 'opaque') answer(400, {}, 'DIGEST_INVALID');
      else {
        this.blobs.set(wanted, body);
        answer(201);
      }
    } else if (method === 'PUT' && url.pathname.includes('/manifests/')) {
      const { config, layers } = JSON.parse(body.toString()) as {
        config: { digest: string };
        layers: { digest: string }[];
      };
      const isComplete = [config, ...layers].every((blob) => this.blobs.has(blob.digest));
      if (isComplete) this.manifests.set(url.pathname, body);
      answer(isComplete ? 201 : 400);
    } else answer(405);
  }
}

describe('a push', () => {
  let registry: FakeRegistry;
  beforeEach(() => {
    registry = new FakeRegistry();
  });
  afterEach(async () => registry.stop());

  test.each([
    ['without a login', undefined],
    ['with a token that the registry asks for', 'secret-token'],
  ])('uploads blobs, then the manifest under its tag, %s', async (_what, token) => {
    const host = await registry.start(token);
    const [image] = await writeLayout(join(dir, 'layout'), [aRecipe()]);
    const pushed = await pushLayout(join(dir, 'layout'), parsePushTarget(`${host}/team/grid`));
    expect(pushed).toEqual([`${host}/team/grid/test@${image!.digest}`]);
    const manifest = registry.manifests.get('/v2/team/grid/test/manifests/1');
    expect(manifest).toEqual(readFileSync(blobPath(join(dir, 'layout'), readIndex(join(dir, 'layout'))[0]!.digest)));
  });

  test('uploads nothing that the registry has', async () => {
    const host = await registry.start();
    await writeLayout(join(dir, 'layout'), [aRecipe()]);
    await pushLayout(join(dir, 'layout'), parsePushTarget(`${host}/team`));
    expect(registry.uploads).toBe(2);
    await pushLayout(join(dir, 'layout'), parsePushTarget(`${host}/team`));
    expect(registry.uploads).toBe(2);
  });

  test('tells what the registry answered when it refuses', async () => {
    const host = await registry.start('token');
    await writeLayout(join(dir, 'layout'), [aRecipe()]);
    const refuse = async (): Promise<Response> => Promise.resolve(new Response('denied: quota', { status: 403 }));
    const push = pushLayout(join(dir, 'layout'), parsePushTarget(`${host}/team`), { fetch: refuse });
    await expect(push).rejects.toThrow(/HEAD http:.* was answered 403: denied: quota/);
  });

  test.each(['registry.example.com', '/prefix', 'http://registry.example.com/x', 'registry.example.com/UPPER', ''])(
    'refuses the target %j',
    (text) => {
      expect(() => parsePushTarget(text)).toThrow(/^PUSH: must be registry\[:port\]\/prefix/);
    },
  );

  test('speaks plain HTTP to loopback registries only', () => {
    expect(parsePushTarget('localhost:5000/x').base).toBe('http://localhost:5000');
    expect(parsePushTarget('registry.example.com/x').base).toBe('https://registry.example.com');
  });
});
