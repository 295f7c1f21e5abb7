/** A job of a member at one site lands on another: it runs there, and its status and logs come back; the member reaches into it from home. */
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { spawn } from 'node:child_process';
import path from 'node:path';
import { type Finished, runXos, startXos } from '#cli/testing/processes.ts';
import type { Execution } from '#crds/execution.ts';
import type { GridJob } from '#crds/grid-job.ts';
import type { Reservation } from '#crds/reservation.ts';
import type { Pod } from '#runtime/builtin.ts';
import type { Stored } from '#runtime/index.ts';
import { type TestSite, waitFor } from '#sites/harness.ts';
import { aTask } from '../job-objects.ts';
import type { Login, Product } from '../product.ts';
import { peerNames, TwoSites } from './two-sites.ts';

jest.setTimeout(240_000);

const name = 'suite-reach';
const namespace = `vo-${name}`;
const far = peerNames.away;
let sites: TwoSites;
let home: TestSite;
let away: TestSite;
let alice: Login;
let bob: Login;
/** An administrator at home, and no more than a member at the other site. */
let carol: Login;
/** An observer, who enters nothing. */
let dave: Login;

async function populate(product: Product, isHome: boolean): Promise<void> {
  for (const each of ['alice', 'bob']) await product.join(each);
  await product.join('dave', { roles: ['observer'] });
  await product.join('carol', { roles: isHome ? ['member', 'administrator'] : ['member'] });
}

beforeAll(async () => {
  sites = await TwoSites.start({ name, nodes: 1, populate });
  [home, away] = [sites.home.site, sites.away.site];
  for (const each of ['alice', 'bob', 'carol', 'dave']) await sites.away.member(each);
  [alice, bob, carol] = [
    await sites.home.logIn('alice'),
    await sites.home.logIn('bob'),
    await sites.home.logIn('carol'),
  ];
  dave = await sites.home.logIn('dave');
}, 480_000);

afterAll(async () => {
  await TwoSites.remove(name);
});

const submit = async (job: string, spec: object, login = alice): Promise<void> => sites.submit(job, spec, login);
const until = async (job: string, is: (job: Stored<GridJob>) => boolean): Promise<Stored<GridJob>> =>
  sites.jobIs(job, is);
const podsAt = async (site: TestSite, job: string): Promise<Pod[]> => sites.podsAt(site, job);

test('a job lands on another site, as the member of that site, and its status and logs come back', async () => {
  await submit('there', { placement: { sites: { in: [far] } }, template: aTask('id -un; sleep 3') });
  const running = await until('there', ({ status }) => status?.tasks?.running === 1);
  expect(running.status?.tasks?.rows[0]).toMatchObject({ site: far, node: away.nodes[0] });
  const job = await until('there', ({ status }) => status?.state === 'Succeeded');
  expect(job.status?.tasks).toMatchObject({ succeeded: 1, succeededIndexes: '0' });
  expect(await podsAt(home, 'there')).toEqual([]);
  const log = await waitFor('the log has come back', async () => {
    const { stdout } = await runXos(['logs', ...alice.login, 'there'], {});
    return stdout === '' ? undefined : stdout;
  });
  expect(log).toMatch(/^u-alice-\d+\n$/);
});

test('exit statuses come back, and a killed job ends there', async () => {
  await submit('fails', { placement: { sites: { in: [far] } }, template: aTask('exit 3') });
  expect((await until('fails', ({ status }) => status?.state === 'Failed')).status?.exitCode).toBe(3);
  await submit('long', { placement: { sites: { in: [far] } }, template: aTask('exec sleep 600') });
  await until('long', ({ status }) => status?.tasks?.running === 1);
  const patch = JSON.stringify({ spec: { signal: { name: 'KILL', sequence: 1 } } });
  await home.kubectl([...alice.login, 'patch', 'gridjob', 'long', '--type=merge', '-p', patch]);
  await until('long', ({ status }) => status?.state === 'Killed');
  await waitFor('nothing of it runs there', async () =>
    (await podsAt(away, 'long')).every(({ status }) => status?.phase === 'Failed') ? true : undefined,
  );
});

/** `xos` at home, as a member. */
const xos = async (words: readonly string[], stdin = '', { login } = alice): Promise<Finished> => {
  const [verb = '', ...rest] = words;
  return runXos([verb, ...login, ...rest], {}, { stdin, limitMs: 120_000 });
};

/** `xos` that goes on: what it says, and its end. */
function going(words: readonly string[], { login } = alice) {
  const [verb = '', ...rest] = words;
  const child = startXos([verb, ...login, ...rest], {}, 200_000);
  const said = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (said.stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said.stderr += text));
  const end = new Promise<number | null>((resolve) => child.on('close', resolve));
  const says = async (what: string): Promise<void> => {
    await waitFor(`xos ${verb} says ${what}`, () => (said.stdout.includes(what) ? true : undefined), {
      limitMs: 60_000,
    }).catch((error: unknown) => {
      throw new Error(`${String(error)}; it said ${JSON.stringify(said)}`);
    });
  };
  return { child, said, end, says };
}

/** Waits until the operator of a site has written a line of its audit log. */
async function audited({ site }: Product, what: string, outcome: string): Promise<Record<string, unknown>> {
  return waitFor(`${what} is in the audit log`, async () => {
    const words = ['logs', '-n', name, '-l', 'app.kubernetes.io/component=operator', '--tail=-1', '-c', 'operator'];
    const lines = (await site.kubectl(words)).split('\n').filter((line) => line.includes('"audit":true'));
    const records = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    return records.find((each) => each.what === what && each.outcome === outcome);
  });
}

describe('from home a member reaches a task that runs at another site', () => {
  const script =
    'echo first; id -un; while [ ! -e /tmp/go ]; do sleep 0.2; done; cat /tmp/go; echo last; while [ ! -e /tmp/end ]; do sleep 0.2; done';

  beforeAll(async () => {
    await submit('live', { placement: { sites: { in: [far] } }, template: aTask(script) });
    await until('live', ({ status }) => status?.tasks?.running === 1);
  });

  test('its log, while it says something', async () => {
    const log = going(['logs', '-f', 'live']);
    await log.says('u-alice-');
    expect((await xos(['exec', '-i', 'live', '--', 'sh', '-c', 'cat > /tmp/go'], 'from home\n')).code).toBe(0);
    await log.says('last');
    expect(log.said.stdout).toMatch(/^first\nu-alice-\d+\nfrom home\nlast\n$/);
    expect((await xos(['logs', '--tail', '1', 'live'])).stdout).toBe('last\n');
    log.child.kill();
    await log.end;
  });

  test('commands in it, with their input, both outputs and exit status, as the member', async () => {
    const done = await xos(['exec', '-i', 'live', '--', 'sh', '-c', 'id -un; cat; echo wrong >&2; exit 7'], 'typed\n');
    expect(done).toMatchObject({ code: 7, stderr: 'wrong\n' });
    expect(done.stdout).toMatch(/^u-alice-\d+\ntyped\n$/);
    const many = 'x'.repeat(3_000_000);
    expect((await xos(['exec', '-i', 'live', '--', 'sh', '-c', 'wc -c'], many)).stdout.trim()).toBe('3000000');
    const back = await xos(['exec', 'live', '--', 'sh', '-c', 'head -c 3000000 /dev/zero | tr "\\0" y']);
    expect(back.stdout.length).toBe(3_000_000);
    const missing = await xos(['exec', 'live', '--', 'no-such-program']);
    expect([missing.code, missing.stderr]).toEqual([1, expect.stringContaining('no-such-program')]);
    const { home: near, away: other } = sites;
    expect(await audited(near, 'task.exec', 'Allowed')).toMatchObject({
      on: { GridJob: 'live', Site: far, Task: '0' },
    });
    expect(await audited(other, 'task.exec', 'Allowed')).toMatchObject({
      who: { subject: 'alice' },
      on: { Site: 'near' },
    });
  });

  test('but nobody else enters it (threat 12)', async () => {
    const refused = await xos(['exec', 'live', '--', 'true'], '', bob);
    expect([refused.code, refused.stderr]).toEqual([4, expect.stringContaining('Task 0 of live is not yours')]);
    const unseen = await xos(['exec', 'live', '--', 'true'], '', dave);
    expect([unseen.code, unseen.stderr]).toEqual([4, expect.stringContaining('have no right to pods/exec')]);
    expect(await audited(sites.home, 'task.exec', 'Refused')).toMatchObject({ who: { subject: 'bob' } });
  });

  test('unless they are an administrator at both sites: each decides for itself (threats 12, 51)', async () => {
    const refused = await xos(['exec', 'live', '--', 'id', '-un'], '', carol);
    expect([refused.code, refused.stderr]).toEqual([4, expect.stringMatching(/Site far: .* is not known to be yours/)]);
    const more = JSON.stringify({ spec: { roles: ['member', 'administrator'] } });
    await away.kubectl(['patch', 'vom', 'carol', '-n', namespace, '--type=merge', '-p', more]);
    await waitFor('carol is let in', async () => {
      const { stdout } = await xos(['exec', 'live', '--', 'id', '-un'], '', carol);
      return stdout.startsWith('u-alice-') ? true : undefined;
    });
  });

  test('with a terminal, that Ctrl-C works in', async () => {
    const main = path.resolve(import.meta.dirname, '../../../cli/main.ts');
    const command =
      'sh -c \'trap "echo caught; exit 5" INT; until stty size 2>&1 | grep 33.77; do sleep 0.1; done; echo ready; while :; do sleep 0.1; done\'';
    const line = `stty rows 33 cols 77; ${process.execPath} ${main} exec ${alice.login.join(' ')} -it live -- ${command}; echo status $?`;
    const child = spawn('script', ['-qec', line, '/dev/null'], {
      env: { PATH: process.env.PATH ?? '', TERM: 'xterm' },
    });
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (more: string) => (text += more));
    const end = new Promise((resolve) => child.on('close', resolve));
    await waitFor('the command is ready', () => (text.includes('ready') ? true : undefined), { limitMs: 60_000 });
    child.stdin.write('\u0003');
    await end;
    expect(text).toContain('33 77');
    expect(text).toMatch(/caught[\s\S]*status 5/);
  });

  test('its own terminal', async () => {
    const template = aTask('while read -r line; do echo got $line; [ "$line" = end ] && exit 5; done');
    await submit('typed', { interactive: true, placement: { sites: { in: [far] } }, template });
    await until('typed', ({ status }) => status?.tasks?.running === 1);
    const attached = await xos(['attach', 'typed'], 'one\nend\n');
    expect(attached.stdout).toContain('got one');
    expect(attached.code).toBe(5);
  });

  test('signals', async () => {
    const script = 'trap "echo woken; exit 0" USR1; echo ready; while :; do sleep 0.1; done';
    await submit('woken', { placement: { sites: { in: [far] } }, template: aTask(script) });
    const log = going(['logs', '-f', 'woken']);
    await log.says('ready');
    expect((await xos(['kill', '-USR1', 'woken'])).stdout).toBe('woken: SIGUSR1 reached 1 task\n');
    expect(await log.end).toBe(0);
    expect(log.said.stdout).toBe('ready\nwoken\n');
  });

  test('until the member is suspended there, which ends what is open at once (threat 39)', async () => {
    await submit('theirs', { placement: { sites: { in: [far] } }, template: aTask('exec sleep 600') }, bob);
    await until('theirs', ({ status }) => status?.tasks?.running === 1);
    const entered = going(['exec', 'theirs', '--', 'sh', '-c', 'echo in; exec sleep 600'], bob);
    await entered.says('in');
    await away.kubectl([
      'patch',
      'vom',
      'bob',
      '-n',
      namespace,
      '--type=merge',
      '-p',
      '{"spec":{"state":"Suspended"}}',
    ]);
    expect(await entered.end).not.toBe(0);
    expect(entered.said.stderr).toMatch(/Suspended/);
    await home.kubectl(['delete', 'gridjob', 'theirs', '-n', namespace, '--wait=false']);
  });

  test('until either site cuts the other off', async () => {
    const connection = async (site: TestSite, peer: string, word: string): Promise<unknown> =>
      site.kubectl([
        'patch',
        'site',
        peer,
        '--type=merge',
        '-p',
        JSON.stringify({ spec: { peer: { connection: word } } }),
      ]);
    for (const [site, peer, words] of [
      [home, far, /cut off/],
      [away, 'near', /far/],
    ] as const) {
      const entered = going(['exec', 'live', '--', 'sh', '-c', 'echo in; exec sleep 600']);
      await entered.says('in');
      await connection(site, peer, 'Cut');
      expect(await entered.end).toBe(1);
      expect(entered.said.stderr).toMatch(words);
      expect(await xos(['exec', 'live', '--', 'true'])).toMatchObject({
        code: 1,
        stderr: expect.stringMatching(words),
      });
      await connection(site, peer, 'Open');
      await waitFor('it is reached again', async () =>
        (await xos(['exec', 'live', '--', 'true'])).code === 0 ? true : undefined,
      );
    }
  });

  test('until it has ended', async () => {
    expect((await xos(['exec', 'live', '--', 'touch', '/tmp/end'])).code).toBe(0);
    await until('live', ({ status }) => status?.state === 'Succeeded');
    expect(await xos(['exec', 'live', '--', 'true'])).toMatchObject({
      code: 5,
      stderr: expect.stringContaining('No task of live runs: the job is succeeded'),
    });
  });
});

test('a gang spans both sites, and what its home forgets is deleted there', async () => {
  // More than one node has: all of it starts together, at both sites, or nothing does.
  await submit('both', { tasks: { count: 6, gangMinimum: 6 }, template: aTask('sleep 2', '400m') });
  const job = await until('both', ({ status }) => status?.state === 'Succeeded');
  expect(job.status?.executions?.map(({ site }) => site).sort()).toEqual([far, 'home']);
  for (const each of ['there', 'fails', 'long', 'live', 'typed', 'woken', 'both'])
    await home.kubectl(['delete', 'gridjob', each, '-n', namespace, '--wait=false']);
  await waitFor(
    'no part is left there',
    async () => {
      const { items } = await away.get<{ items: Execution[] }>('executions', '-n', namespace);
      return items.length === 0 ? true : undefined;
    },
    { limitMs: 90_000 },
  );
});

test('a reservation over both sites holds as one, and its tasks start at both on time', async () => {
  const startMs = Math.ceil(Date.now() / 1000) * 1000 + 30_000;
  const window = { start: new Date(startMs).toISOString(), durationSeconds: 300 };
  // More than one node has.
  const spec = { slots: 6, resources: { cpu: '400m', memory: '32Mi' }, window };
  const about = { apiVersion: 'xtreemos.io/v1alpha1', kind: 'Reservation', metadata: { name: 'wide' } };
  await home.kubectl([...alice.login, 'create', '-f', '-'], { input: JSON.stringify({ ...about, spec }) });
  const held = await home.until<Stored<Reservation>>(
    ['reservation', 'wide', '-n', namespace],
    ({ status }) => status?.state === 'Held',
    60_000,
  );
  expect([...new Set(held.status?.slots?.map(({ site }) => site))].sort()).toEqual([far, 'home']);
  await submit('reserved', { reservation: 'wide', tasks: { count: 6 }, template: aTask('exec sleep 600', '400m') });
  const job = await until('reserved', ({ status }) => status?.tasks?.running === 6);
  for (const site of [far, 'home']) {
    const rows = job.status?.tasks?.rows.filter((row) => row.site === site) ?? [];
    const begun = rows.map(({ startTime = '' }) => (Date.parse(startTime) - startMs) / 1000);
    expect(Math.min(...begun)).toBeGreaterThanOrEqual(-1);
    expect(Math.max(...begun)).toBeLessThan(20);
  }
  await home.kubectl(['delete', 'gridjob/reserved', 'reservation/wide', '-n', namespace, '--wait=false']);
  await waitFor(
    'no promise is left there',
    async () => {
      const { items } = await away.get<{ items: object[] }>('claims', '-n', namespace);
      return items.length === 0 ? true : undefined;
    },
    { limitMs: 60_000 },
  );
});
