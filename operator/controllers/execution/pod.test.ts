import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { anExecution, owner } from '#operator/testing/jobs.ts';
import type { Pod } from '#runtime/builtin.ts';
import { podName, type PodSurroundings, taskPod } from './pod.ts';

const around: PodSurroundings = {
  ...{
    site: 'home',
    uidMode: 'Global',
    runtimeClassName: undefined,
    dedicatedTo: undefined,
    home: undefined,
    gids: [2013265930],
  },
};
const task = { run: 'r1abcd', index: 7, node: 'n1', hold: 'h1' };

describe('the pod of a task', () => {
  test('is bound to the node that promised, as the member, without a token, and bears the hold', () => {
    const pod = taskPod(anExecution('job'), task, around, 0);
    expect(pod.spec).toMatchObject({
      ...{ nodeName: 'n1', serviceAccountName: owner, automountServiceAccountToken: false, restartPolicy: 'Never' },
      securityContext: {
        ...{ runAsUser: 2013300123, runAsGroup: 2013265920, fsGroup: 2013265920 },
        ...{ supplementalGroups: [2013265930], supplementalGroupsPolicy: 'Strict', runAsNonRoot: true },
      },
    });
    expect(pod.metadata.labels).toMatchObject({ 'xtreemos.io/claim': 'h1', 'xtreemos.io/task-index': '7' });
  });

  test('sees the lower 16 bits in a user namespace where the virtual organization wants that', () => {
    const pod = taskPod(anExecution('job'), task, { ...around, uidMode: 'Local' }, 0);
    expect(pod.spec).toMatchObject({
      hostUsers: false,
      securityContext: { runAsUser: 34203, runAsGroup: 0, supplementalGroups: [10] },
    });
  });

  test('tells each task its own, and nobody can say otherwise', () => {
    const env = [
      { name: 'XTREEMOS_TASK_INDEX', value: '99' },
      { name: 'MINE', value: 'x' },
    ];
    const pod = taskPod(anExecution('job', { taskCount: 9, template: { image: 'i', env } }), task, around, 0);
    const seen = Object.fromEntries(pod.spec!.containers[0]!.env!.map(({ name, value }) => [name, value]));
    expect(seen).toMatchObject({ XTREEMOS_TASK_INDEX: '7', XTREEMOS_TASK_COUNT: '9', XTREEMOS_NODE: 'n1', MINE: 'x' });
    expect(pod.spec!.containers[0]!.env).toHaveLength(9);
  });

  test('says what its node has promised: until when, out of which reservation, and whether it gives way', () => {
    const now = Date.parse('2026-01-01T00:00:00Z');
    const until = '2026-01-01T01:00:00.000Z';
    const template = { image: 'i', terminationGraceSeconds: 28 };
    const pod = taskPod(anExecution('job', { template }), { ...task, reservation: 'c1', until }, around, now);
    expect(pod.metadata.annotations).toEqual({ 'xtreemos.io/draws-from': 'c1', 'xtreemos.io/until': until });
    expect(pod.spec?.activeDeadlineSeconds).toBe(3_570);
    const late = taskPod(anExecution('job', { template }), { ...task, until }, around, now + 3_599_000);
    expect(late.spec?.activeDeadlineSeconds).toBe(1);
    const guest = taskPod(anExecution('job', { preemptible: true }), task, around, now);
    expect(guest.metadata.annotations).toEqual({ 'xtreemos.io/gives-way': 'true' });
  });

  test('gets a token for the gateway alone, when its job may submit others, and what it takes to use it', () => {
    const gateway = { address: 'gateway.example:7443', authority: 'PEM' };
    const env = [{ name: 'XTREEMOS_GATEWAY_ADDRESS', value: 'evil.example:7443' }];
    const access = { gridAccess: true, template: { image: 'i', env } };
    const pod = taskPod(anExecution('job', access), task, { ...around, gateway }, 0);
    expect(pod.spec?.volumes).toContainEqual({
      name: 'xtreemos-gateway',
      projected: {
        sources: [
          { serviceAccountToken: { audience: 'xtreemos-gateway', expirationSeconds: 600, path: 'token' } },
          { downwardAPI: { items: [{ path: 'ca.crt', fieldRef: { fieldPath: expect.any(String) } }] } },
        ],
      },
    });
    const folder = '/var/run/xtreemos/gateway';
    const [container] = pod.spec!.containers;
    expect(container?.volumeMounts).toContainEqual({ name: 'xtreemos-gateway', mountPath: folder, readOnly: true });
    expect(container?.env?.filter(({ name }) => /GATEWAY|ORGANIZATION/.test(name))).toEqual([
      { name: 'XTREEMOS_GATEWAY_ADDRESS', value: gateway.address },
      { name: 'XTREEMOS_GATEWAY_CA_FILE', value: `${folder}/ca.crt` },
      { name: 'XTREEMOS_GATEWAY_TOKEN_FILE', value: `${folder}/token` },
      { name: 'XTREEMOS_VIRTUAL_ORGANIZATION', value: 'physics' },
    ]);
    expect(pod.metadata.annotations).toMatchObject({ 'xtreemos.io/gateway-authority': 'PEM' });
    expect(pod.metadata.labels).toMatchObject({ 'xtreemos.io/grid-access': 'true' });
    const plain = JSON.stringify(taskPod(anExecution('job'), task, { ...around, gateway }, 0));
    expect(plain).not.toMatch(/gateway|serviceAccountToken|grid-access/);
    expect(() => taskPod(anExecution('job', access), task, around, 0)).toThrow(/gateway is not known/);
  });

  test('has the home of its member, where HOME points, unless the job says otherwise', () => {
    const home = { volume: `home-${owner}`, mountPath: `/home/${owner}` };
    const container = (spec: object): NonNullable<NonNullable<Pod['spec']>['containers']>[number] =>
      taskPod(anExecution('job', spec), task, { ...around, home }, 0).spec!.containers[0]!;
    const homeOf = ({ env = [] }: ReturnType<typeof container>): unknown[] =>
      env.filter(({ name }) => name === 'HOME').map(({ value }) => value);
    const usual = container({});
    expect(homeOf(usual)).toEqual([home.mountPath]);
    expect(usual.volumeMounts).toContainEqual({ name: `volume-home-${owner}`, mountPath: home.mountPath });
    expect(taskPod(anExecution('job'), task, { ...around, home }, 0).spec?.volumes).toContainEqual({
      name: `volume-home-${owner}`,
      persistentVolumeClaim: { claimName: `home-${owner}` },
    });
    const shared = { volume: 'data', mountPath: '/in', readOnly: true };
    const claimsOf = (volumes: object[]): unknown =>
      taskPod(anExecution('job', { volumes }), task, { ...around, home }, 0)
        .spec?.volumes?.map(({ persistentVolumeClaim }) => persistentVolumeClaim)
        .filter((claim) => claim?.claimName === 'data');
    expect(claimsOf([shared])).toEqual([{ claimName: 'data', readOnly: true }]);
    expect(claimsOf([shared, { ...shared, mountPath: '/out', readOnly: false }])).toEqual([{ claimName: 'data' }]);
    const own = { volumes: [{ volume: 'data', mountPath: home.mountPath }] };
    const said = container({ ...own, template: { image: 'i', env: [{ name: 'HOME', value: '/tmp' }] } });
    expect(homeOf(said)).toEqual(['/tmp']);
    expect(said.volumeMounts?.filter(({ mountPath }) => mountPath === home.mountPath)).toMatchObject([
      { name: 'volume-data' },
    ]);
    const twice = anExecution('job', { volumes: [{ volume: home.volume, mountPath: '/mine' }] });
    expect(taskPod(twice, task, { ...around, home }, 0).spec?.volumes).toHaveLength(2);
  });

  test('opens files in volumes, whatever their names hold', () => {
    const volumes = [{ volume: 'data', mountPath: '/d' }];
    const stdout = { volume: 'data', path: "it's %j/%t; rm" };
    const pod = taskPod(anExecution('job', { volumes, stdout }), task, around, 0);
    const [shell, flag, script, ...rest] = pod.spec!.containers[0]!.command!;
    expect([shell, flag, ...rest]).toEqual(['/bin/sh', '-c', 'true']);
    expect(script).toBe(String.raw`exec "$0" "$@" >'/d/it'\''s job/7; rm'`);
  });
});

describe('its name', () => {
  test('is a host name that begins with the user, and differs for every run and index', () => {
    fc.assert(
      fc.property(
        fc.stringMatching(/^[a-z]([-a-z0-9]{0,50}[a-z0-9])?$/),
        fc.integer({ min: 0, max: 9_999 }),
        fc.stringMatching(/^[a-z0-9]{6}$/),
        (job, index, run) => {
          const name = podName(anExecution(job), { index, run });
          expect(name).toMatch(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])$/);
          expect(name.startsWith(`${owner}-`)).toBe(true);
          expect(name.endsWith(`-${run}-${index}`)).toBe(true);
        },
      ),
    );
  });
});
