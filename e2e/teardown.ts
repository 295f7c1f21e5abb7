/**
 * Takes the shared sites down after the last suite; `XTREEMOS_E2E_KEEP=1` leaves them for a look,
 * and so does the setup when it found them running.
 */
import { chooseProvider } from './sites/provider.ts';
import { providerName, sharedName } from './sites/harness.ts';

/** Called once by jest. */
export default async function teardown(): Promise<void> {
  if (process.env.XTREEMOS_E2E_KEEP === '1') return;
  const provider = await chooseProvider(providerName());
  await provider?.down(sharedName(), (line) => process.stderr.write(`${line}\n`));
}
