/**
 * Brings the shared sites up before the first end-to-end suite. `XTREEMOS_E2E_SITES` and `XTREEMOS_E2E_NODES` say how
 * many (1 and 2), `XTREEMOS_E2E_NAME` under which name, `PROVIDER` how.
 */
import { chooseProvider } from './sites/provider.ts';
import { providerName, sharedName } from './sites/harness.ts';

/** Called once by jest. */
export default async function setup(): Promise<void> {
  const provider = await chooseProvider(providerName());
  if (provider === undefined) return;
  const started = performance.now();
  const sites = Number(process.env.XTREEMOS_E2E_SITES ?? '1');
  const nodes = Number(process.env.XTREEMOS_E2E_NODES ?? '2');
  await provider.up({ name: sharedName(), sites, nodes, report: (line) => process.stderr.write(`${line}\n`) });
  process.stderr.write(`Sites for the suites were ready after ${Math.round((performance.now() - started) / 1000)} s\n`);
}
