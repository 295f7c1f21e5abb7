/** The product of this checkout on a real site of one node, for benchmarks. */
import { openSites } from '#sites/harness.ts';
import { localProvider } from '#sites/provider.ts';
import { Product } from '../e2e/suites/product.ts';

/**
 * @param name - instance of sites; brought up for this when it doesn't run, and taken down again then.
 * @param settings - further values of the chart.
 */
export async function withProduct(
  name: string,
  settings: readonly string[],
  use: (product: Product) => Promise<void>,
): Promise<void> {
  const report = (line: string): void => void process.stderr.write(`${line}\n`);
  const isFound = await openSites(name).then(
    () => true,
    () => false,
  );
  if (!isFound) await localProvider.up({ name, sites: 1, nodes: 1, report });
  try {
    const product = await Product.install('bench', settings, name);
    try {
      await use(product);
    } finally {
      await product.uninstall();
    }
  } finally {
    if (!isFound) await localProvider.down(name, report);
  }
}
