/** An MRC as a process of its own, for benchmarks and crash tests: `node standalone-main.ts FOLDER`; prints its port. */
import { startStandalone } from './standalone.ts';

const folder = process.argv[2];
if (folder === undefined) throw new Error('Usage: standalone-main.ts FOLDER');
const { port, mrc, ...standalone } = await startStandalone(folder);
process.on('message', (message) => {
  if (message === 'memory')
    process.send?.({ rssMb: Math.round(process.memoryUsage().rss / 2 ** 20), store: mrc.status().store });
  if (message === 'stop') void standalone.stop().then(() => process.exit(0));
});
// Whoever started it is gone: nobody would stop it.
process.on('disconnect', () => process.exit(1));
process.send?.({ port });
