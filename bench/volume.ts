/**
 * `make bench-volume`: what a volume costs a pod, on a real site of one node with the product installed from its chart. Each pod of
 * the first part has a volume that is not on the node yet, beside one with an emptyDir. Figures count on a quiet machine only; the
 * load is among them.
 *
 * usage: node bench/volume.ts [--volumes 100] [--pods 40] [--mib 128] [--site bench-volume]
 */
import { loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { withProduct } from './product.ts';
import { VolumeMeasures } from './volume-measures.ts';

const { values } = parseArgs({
  options: {
    volumes: { type: 'string', default: '100' },
    pods: { type: 'string', default: '40' },
    mib: { type: 'string', default: '128' },
    site: { type: 'string', default: 'bench-volume' },
  },
});
const [volumes, pods, mib] = [values.volumes, values.pods, values.mib].map(Number) as [number, number, number];
const report = (line: string): void => void process.stderr.write(`${line}\n`);
const load = Number(loadavg()[0]?.toFixed(1));

await withProduct(values.site, [], async (product) => {
  const { site, name, namespace } = product;
  const remove = async (words: readonly string[], limitS: number): Promise<void> => {
    await site.tryKubectl(['delete', ...words, `--timeout=${limitS}s`], { timeoutMs: (limitS + 10) * 1000 });
  };
  try {
    const measures = await VolumeMeasures.prepare(product, report);
    const provisioned = await measures.provision(volumes);
    const starts = await measures.podStarts(Math.min(pods, volumes));
    const throughput = await measures.throughput(mib);
    const failover = await measures.failOver();
    const memory = await measures.memory(volumes);
    const conditions = {
      nodes: 1,
      osds: 2,
      volumes,
      pods,
      mib,
      load_before: load,
      load_after: Number(loadavg()[0]?.toFixed(1)),
    };
    const figure = { ...starts, ...throughput, ...memory, failover_s: failover, ...provisioned, conditions };
    console.log(`figure: ${JSON.stringify(figure)}`);
  } finally {
    await remove(['pods', '--all', '-n', namespace, '--grace-period=1'], 190);
    await remove(['gvol', '--all', '-n', namespace], 120);
    await remove(['xfs', '--all', '-n', name], 60);
  }
});
