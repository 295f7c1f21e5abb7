import { InvalidInputError } from '#common/errors.ts';
import { parseDurationMs } from '../frame/options.ts';

const units: readonly (readonly [name: string, seconds: number])[] = [
  ['y', 365 * 86_400],
  ['d', 86_400],
  ['h', 3600],
  ['m', 60],
  ['s', 1],
];

/** How long ago a moment was, as kubectl shows ages, for example `5m` or `3d`. */
export function formatAge(time: string | undefined, nowMs: number): string | undefined {
  if (time === undefined) return undefined;
  return formatSpan((nowMs - Date.parse(time)) / 1000);
}

/** A span of seconds in its largest unit, two of them when the first is small: `90m` is `1h30m`, `50h` is `2d2h`. */
export function formatSpan(seconds: number): string {
  const total = Math.max(0, Math.floor(seconds));
  const index = units.findIndex(([, size]) => total >= size);
  if (index < 0) return '0s';
  const [name, size] = units[index] ?? ['s', 1];
  const count = Math.floor(total / size);
  const next = units[index + 1];
  const rest = next === undefined || count >= 10 ? 0 : Math.floor((total % size) / next[1]);
  return `${count}${name}${rest > 0 && next !== undefined ? `${rest}${next[0]}` : ''}`;
}

/**
 * A moment that a user wrote: `2027-01-31` (its end, UTC), an RFC 3339 time, or a duration from now such as `90d`.
 * @returns RFC 3339 with seconds, UTC.
 * @throws {InvalidInputError}
 */
export function parseMoment(text: string, flag: string, nowMs: number): string {
  if (/^\d{4}-\d{2}-\d{2}/.test(text)) {
    const time = Date.parse(text.length === 10 ? `${text}T23:59:59Z` : text);
    if (!Number.isNaN(time)) return rfc3339(time);
  } else if (/^\d/.test(text)) {
    return rfc3339(nowMs + parseDurationMs(text, flag));
  }
  const forms = 'a date such as 2027-01-31, a time such as 2027-01-31T12:00:00Z, or a duration such as 90d';
  throw new InvalidInputError(flag, `${JSON.stringify(text)} is no moment: give ${forms}`);
}

function rfc3339(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}
