/** A DIR in a process of its own, for tests that kill it: `node dir-process.ts FLAGS…`; prints its port. */
import { systemClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { parseOptions } from '#common/options.ts';
import { dirOptionSpecs, startDir } from '../dir-server.ts';

const { values } = parseOptions(dirOptionSpecs, process.argv.slice(2), {});
const dir = await startDir(values, { clock: systemClock, logger: silentLogger });
process.stdout.write(`${dir.port}\n`);
