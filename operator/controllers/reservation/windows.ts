/** The windows of a reservation. Pure. */
import { recurrenceMs, type Reservation, windowsAhead } from '#crds/reservation.ts';
import type { Span } from '#proto/selector/contract.ts';
import type { Stored } from '#runtime/types.ts';

/** The windows that are not over, soonest first, as many as are held; empty when the last has ended. Windows recur in steps of the same length. */
export function windowsOf({ spec, metadata }: Stored<Reservation>, now: number): Span[] {
  const { start, end, durationSeconds, recurrence } = spec.window;
  const first = Date.parse(start ?? metadata.creationTimestamp);
  const lastsMs = end === undefined ? 1000 * (durationSeconds ?? 0) : Date.parse(end) - first;
  if (recurrence === undefined) return first + lastsMs > now ? [{ startMs: first, endMs: first + lastsMs }] : [];
  const stepMs = recurrenceMs[recurrence.every];
  const until = Date.parse(recurrence.until);
  const windows: Span[] = [];
  const passed = Math.max(0, Math.ceil((now - lastsMs - first) / stepMs));
  for (let startMs = first + passed * stepMs; startMs <= until && windows.length < windowsAhead; startMs += stepMs) {
    if (startMs + lastsMs > now) windows.push({ startMs, endMs: startMs + lastsMs });
  }
  return windows;
}
