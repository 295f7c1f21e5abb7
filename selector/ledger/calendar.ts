import type { Span } from '#proto/selector/contract.ts';
import { addTo, larger, type Resources } from '#proto/selector/resources.ts';

/** Something that occupies resources for a span. */
export interface Booking {
  readonly span: Span;
  readonly demand: Resources;
}

/** Whether two spans share a moment. */
export function overlaps(a: Span, b: Span): boolean {
  return a.startMs < b.endMs && b.startMs < a.endMs;
}

/**
 * The most that `bookings` occupy at any one moment of `span`, resource by resource. Use only ever rises where a
 * booking begins, so it is enough to look at the start of the span and at every start within it.
 */
export function peakUse(bookings: readonly Booking[], span: Span): Resources {
  const relevant = bookings.filter((booking) => overlaps(booking.span, span));
  const moments = new Set([span.startMs]);
  for (const booking of relevant) if (booking.span.startMs > span.startMs) moments.add(booking.span.startMs);
  let peak: Resources = {};
  for (const moment of moments) {
    const use: Record<string, number> = {};
    for (const booking of relevant) {
      if (booking.span.startMs <= moment && moment < booking.span.endMs) addTo(use, booking.demand);
    }
    peak = larger(peak, use);
  }
  return peak;
}
