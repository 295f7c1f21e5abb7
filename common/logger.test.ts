import { expect, test } from '@jest/globals';
import { createLogger } from './logger.ts';

function capture(level?: 'debug'): { logger: ReturnType<typeof createLogger>; lines: () => Record<string, unknown>[] } {
  const written: string[] = [];
  const destination = { write: (line: string) => void written.push(line) };
  const logger = createLogger({ name: 'test', destination, ...(level === undefined ? {} : { level }) });
  return { logger, lines: () => written.map((line) => JSON.parse(line) as Record<string, unknown>) };
}

test('writes the message, level and fields as one JSON line', () => {
  const { logger, lines } = capture();
  logger.with({ Site: 'local' }).info('Started', { nodes: 2 });
  expect(lines()).toEqual([
    expect.objectContaining({ level: 'info', logger: 'test', Site: 'local', nodes: 2, msg: 'Started' }),
  ]);
});

test('secrets never reach the log, also when nested', () => {
  const { logger, lines } = capture();
  logger.info('Logged in', {
    token: 'canary-1',
    session: { refreshToken: 'canary-2' },
    a: { b: { password: 'canary-3' } },
  });
  expect(JSON.stringify(lines())).not.toContain('canary');
});

test('debug lines appear only at level debug', () => {
  const quiet = capture();
  quiet.logger.debug('Detail');
  expect(quiet.lines()).toHaveLength(0);
  const loud = capture('debug');
  loud.logger.debug('Detail');
  expect(loud.lines()).toHaveLength(1);
});

test('an error keeps its stack under err', () => {
  const { logger, lines } = capture();
  logger.error('Reconcile failed', { err: new Error('no such node') });
  expect(lines()[0]?.err).toMatchObject({ message: 'no such node', type: 'Error' });
});
