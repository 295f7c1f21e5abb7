/** Sends objects made to crash controllers (threat 14) to an API server, and looks for what they did to the operator. */
import { expect } from '@jest/globals';
import { pick, SeededRandom } from '#common/random.ts';
import { HostileObjects } from '#crds/testing/hostile.ts';
import { readSamples } from '#crds/testing/samples.ts';
import { type KubeClient, KubeStatusError } from '#sites/kube-client.ts';

const seed = 14;
const atOnce = 8;
const root = '/apis/xtreemos.io/v1alpha1';
/** Kinds that have no namespace. */
const ofCluster = new Set(['VirtualOrganization']);
/** Kinds that bear the member who makes them. */
const ofMembers = new Set(['GridJob', 'Reservation', 'Volume']);

/**
 * Makes `count` objects of all kinds that people make; most are refused by the schemas.
 * @param options - `administrator` may make everything, `member` what members make; `namespace` is that of their organization.
 * @throws when the API server broke at one, or when too few came through to be worth the name.
 */
export async function sendHostileObjects(options: {
  readonly count: number;
  readonly namespace: string;
  readonly administrator: KubeClient;
  readonly member: KubeClient;
}): Promise<void> {
  const { count, namespace, administrator, member } = options;
  const random = new SeededRandom(seed);
  const names = ['h0', 'h1', 'h2', 'h49', namespace.replace(/^vo-/, ''), 'home'];
  // Slices and Sites are for operators and owners of sites alone.
  const samples = readSamples()
    .map(([, sample]) => sample)
    .filter(({ kind }) => kind !== 'IdentitySlice' && kind !== 'Site');
  const makers = new Map(
    samples.map(({ kind = '' }) => [kind, new HostileObjects(`${kind.toLowerCase()}s`, names, random)]),
  );
  const answers = new Map<number, number>();
  const kinds = new Set<string>();
  let next = 0;
  const work = async (): Promise<void> => {
    for (let index = next++; index < count; index = next++) {
      const sample = pick(random, samples);
      const { kind = '', apiVersion } = sample;
      const plural = `${kind.toLowerCase()}s`;
      const isOfCluster = ofCluster.has(kind);
      const metadata = { name: `h${index}`, ...(isOfCluster ? {} : { namespace }) };
      const body = { ...makers.get(kind)?.of({ ...sample, metadata }), apiVersion, kind, metadata };
      const path = isOfCluster ? `${root}/${plural}` : `${root}/namespaces/${namespace}/${plural}`;
      const code = await (ofMembers.has(kind) ? member : administrator).json('POST', path, { body }).then(
        () => 201,
        (error: unknown) => {
          if (!(error instanceof KubeStatusError)) throw error;
          return error.code;
        },
      );
      answers.set(code, (answers.get(code) ?? 0) + 1);
      if (code === 201) kinds.add(kind);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  // Enough of every kind came through to be worth the name.
  expect(answers.get(201) ?? 0).toBeGreaterThan(count / 20);
  expect(kinds).toEqual(new Set(makers.keys()));
  expect([...answers.keys()].filter((code) => code >= 500)).toEqual([]);
}

/** Lines of a log in which the operator was surprised: what it can't work with it says in its own words. */
export function surprisesIn(log: string): string[] {
  const lines = log.split('\n').filter((line) => /TypeError|RangeError|ReferenceError|call stack/.test(line));
  return [...new Set(lines.map((line) => line.slice(0, 600)))].slice(0, 5);
}
