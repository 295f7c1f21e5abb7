/** What each task of a job runs: the same words in a GridJob and in the Execution that carries it out. */
import { z } from 'zod';
import { demand } from './requirements.ts';
import { choice, dnsLabel, integer, listAtomic, listMap, object, text } from './vocabulary.ts';

/** Together with `command`, bounded well below what Linux takes as arguments (`MAX_ARG_STRLEN` is 128 KiB). */
const argumentMaxLength = 32_768;
const pathMaxLength = 1_024;

const argument = text('One argument.', { maxLength: argumentMaxLength });

const variable = object('One variable of the environment.', {
  name: text('Its name.', {
    minLength: 1,
    maxLength: 256,
    pattern: /^[A-Za-z_][A-Za-z0-9_]*$/,
    patternMeans: 'use letters, digits and underscores, not starting with a digit',
  }),
  value: text('Its value, taken as it stands.', { maxLength: argumentMaxLength }).default(''),
});

const absolutePath = (about: string): z.ZodString =>
  text(about, {
    minLength: 1,
    maxLength: pathMaxLength,
    pattern: /^\/[^\0]*$/,
    patternMeans: 'start with /',
    rules: [{ rule: "!self.matches('(^|/)[.][.](/|$)')", message: 'a path must not contain ..' }],
  });

/** A path inside a volume: relative and without `..`. */
export const volumePath = (about: string): z.ZodString =>
  text(about, {
    minLength: 1,
    maxLength: pathMaxLength,
    pattern: /^[^/\0][^\0]*$/,
    patternMeans: 'a path inside the volume does not start with /',
    rules: [{ rule: "!self.matches('(^|/)[.][.](/|$)')", message: 'a path must not contain ..' }],
  });

const volumeMount = object('A volume and where tasks see it.', {
  volume: dnsLabel('Name of the Volume, or of a PersistentVolumeClaim, of this virtual organization.'),
  mountPath: absolutePath('Where it is mounted.'),
  readOnly: z.boolean().meta({ description: 'Whether tasks may only read it.' }).default(false),
  subPath: volumePath('Folder of the volume that is mounted instead of its root.').optional(),
});

/** `volumes` of a job. */
export const volumes = listMap('Volumes that tasks use. Tasks wait until every one is there.', volumeMount, {
  maxItems: 16,
  keys: ['mountPath'],
});

/** A file in one of the job's volumes, for `stdin`, `stdout` and `stderr`. `%t` in the path becomes the index of the task. */
export const volumeFile = (about: string): z.ZodObject<{ volume: z.ZodString; path: z.ZodString }, z.core.$strict> =>
  object(about, {
    volume: dnsLabel('Name of one of the volumes of the job.'),
    path: volumePath('Path in the volume; `%t` becomes the index of the task, `%j` the name of the job.'),
  });

/** What each task runs. There is no free part: what a user may set is what is named here. */
export const taskTemplate = object('What each task runs.', {
  image: text('Image of the container.', {
    minLength: 1,
    maxLength: 512,
    pattern: /^[A-Za-z0-9][A-Za-z0-9._:@/-]*$/,
    patternMeans: 'use name, name:tag or name@digest',
  }),
  imagePullPolicy: choice('When the node pulls the image.', {
    IfNotPresent: 'when it does not have it.',
    Always: 'each time.',
    Never: 'never: it must be there.',
  }).default('IfNotPresent'),
  command: listAtomic('Program and first arguments, instead of the entry point of the image.', argument, {
    maxItems: 256,
  }).default([]),
  args: listAtomic('Arguments, instead of those of the image.', argument, { maxItems: 1_024 }).default([]),
  env: listMap(
    'Variables. Every task also has XTREEMOS_JOB, XTREEMOS_TASK_INDEX, XTREEMOS_TASK_COUNT, XTREEMOS_ATTEMPT, XTREEMOS_SITE and XTREEMOS_NODE.',
    variable,
    { maxItems: 256, keys: ['name'] },
  ).default([]),
  workingDir: absolutePath('Folder that the program starts in, instead of that of the image.').optional(),
  resources: demand.default({ cpu: '100m', memory: '128Mi', devices: [] }),
  terminationGraceSeconds: integer('How long a task has to end after SIGTERM, seconds.', {
    min: 0,
    max: 3_600,
  }).default(30),
});
