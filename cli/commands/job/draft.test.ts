import { describe, expect, test } from '@jest/globals';
import { plainDraft } from '../../testing/jobs.ts';
import { draftJob, nameFrom, parseRequirements } from './draft.ts';

describe('a job from the command line', () => {
  test('says what was asked for and nothing else', () => {
    expect(draftJob(plainDraft, 'busybox:1')).toEqual({
      metadata: { name: 'mine' },
      spec: { tasks: { count: 1 }, template: { image: 'busybox:1', command: ['sh', '-c', 'true'] } },
    });
  });

  test('takes every option to its field', () => {
    const { spec } = draftJob(
      {
        ...plainDraft,
        ...{ cpu: '2', memory: '4Gi', device: ['example.org/gpu=2'], site: ['rennes'], spread: true, rank: 'free.cpu' },
        ...{ require: ['arch=amd64'], where: ['live.load1 < 4.0'], env: ['A=b=c'], workingDir: '/tmp' },
        ...{
          tasks: 10,
          parallelism: 5,
          gang: 2,
          volume: ['data/in:/data:ro', 'results:/out'],
          stdout: 'results:%t.txt',
        },
        ...{ after: ['one', 'two:failed'], reservation: 'r', preemptible: true, priority: 3, retries: 2 },
        ...{ deadline: 60, ttl: 5, grace: 1, interactive: true, gridAccess: true },
      },
      'busybox:1',
    );
    expect(spec).toEqual({
      tasks: { count: 10, parallelism: 5, gangMinimum: 2 },
      template: {
        image: 'busybox:1',
        command: ['sh', '-c', 'true'],
        env: [{ name: 'A', value: 'b=c' }],
        workingDir: '/tmp',
        resources: { cpu: '2', memory: '4Gi', devices: [{ resource: 'example.org/gpu', count: 2 }] },
        terminationGraceSeconds: 1,
      },
      requirements: { static: [{ attribute: 'arch', in: ['amd64'] }], dynamic: ['live.load1 < 4.0'] },
      rank: 'free.cpu',
      placement: { sites: { in: ['rennes'] }, spread: 'Spread' },
      volumes: [
        { volume: 'data', mountPath: '/data', readOnly: true, subPath: 'in' },
        { volume: 'results', mountPath: '/out' },
      ],
      stdout: { volume: 'results', path: '%t.txt' },
      dependsOn: [{ job: 'one' }, { job: 'two', when: 'Failed' }],
      reservation: 'r',
      preemptible: true,
      priority: 3,
      retries: { limit: 2 },
      deadlineSeconds: 60,
      ttlSecondsAfterFinished: 5,
      interactive: true,
      gridAccess: true,
    });
  });

  test.each([
    [{ env: ['A'] }, /--env.*"A" is not NAME=VALUE/],
    [{ after: ['a:never'] }, /--after.*one of Succeeded, Failed/],
    [{ device: ['gpu'] }, /--device.*DOMAIN/],
    [{ volume: ['data:relative'] }, /--volume/],
    [{ stdout: 'results' }, /--stdout.*VOLUME:PATH/],
    [{ require: ['arch~amd64'] }, /--require.*write it like/],
  ])('that makes no sense is refused with the option: %j', (wrong, message) => {
    expect(() => draftJob({ ...plainDraft, ...wrong }, 'busybox:1')).toThrow(message);
  });

  test('asks for ranges by two requirements', () => {
    expect(parseRequirements(['memory>=16Gi', 'memory<=64Gi', 'site.country!=US,CN'])).toEqual([
      { attribute: 'memory', min: '16Gi', max: '64Gi' },
      { attribute: 'site.country', notIn: ['US', 'CN'] },
    ]);
  });

  test.each([
    ['/usr/bin/My_Prog', 'my-prog-0a0b0c'],
    ['registry.example.org:5000/a/busybox:1', 'busybox-0a0b0c'],
    ['99', 'job-0a0b0c'],
    ['x'.repeat(100), `${'x'.repeat(40)}-0a0b0c`],
  ])('gets a name that is free: %s', (program, name) => {
    expect(nameFrom(program, '0a0b0c')).toBe(name);
  });
});
