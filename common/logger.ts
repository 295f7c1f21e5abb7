import { pino } from 'pino';

/** How much is logged, from least to most. */
export const logLevels = ['error', 'warn', 'info', 'debug'] as const;
export type LogLevel = (typeof logLevels)[number];

/** Data beside a message. Keys are lowerCamel; Kinds are PascalCase keys (`GridJob: 'vo-a/sum'`). */
export type LogFields = Readonly<Record<string, unknown>>;

/**
 * A structured log for operators of the system: constant message, capital first, no full stop, data as fields.
 * Errors go under the key `err`.
 */
export interface Logger {
  error(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  debug(message: string, fields?: LogFields): void;
  /** A logger that adds `fields` to every line. */
  with(fields: LogFields): Logger;
}

/** Paths whose values never reach a log, whatever object carries them. */
const secretPaths = ['token', 'password', 'secret', 'authorization', 'privateKey', 'cookie', 'refreshToken'].flatMap(
  (key) => [key, `*.${key}`, `*.*.${key}`],
);

/** A logger that writes one JSON object a line to `destination` (default: stdout). */
export function createLogger(
  options: { level?: LogLevel; name?: string; destination?: { write(line: string): void } } = {},
): Logger {
  const settings = {
    level: options.level ?? 'info',
    base: options.name === undefined ? null : { logger: options.name },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    serializers: { err: pino.stdSerializers.err },
    redact: { paths: secretPaths, censor: '[redacted]' },
    messageKey: 'msg',
  };
  return wrap(options.destination === undefined ? pino(settings) : pino(settings, options.destination));
}

function wrap(sink: pino.Logger): Logger {
  return {
    error: (message, fields) => sink.error(fields ?? {}, message),
    warn: (message, fields) => sink.warn(fields ?? {}, message),
    info: (message, fields) => sink.info(fields ?? {}, message),
    debug: (message, fields) => sink.debug(fields ?? {}, message),
    with: (fields) => wrap(sink.child(fields)),
  };
}

/** A logger that drops everything, for tests and libraries used without one. */
export const silentLogger: Logger = {
  error: () => undefined,
  warn: () => undefined,
  info: () => undefined,
  debug: () => undefined,
  with: () => silentLogger,
};
