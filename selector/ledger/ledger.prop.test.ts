import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { VirtualClock } from '#common/clock.ts';
import { peakUse, type Booking } from './calendar.ts';
import { Ledger } from './ledger.ts';
import { MemoryClaimStore, type Claim, type ClaimStore } from './store.ts';

/** A store whose calls end in an order of the test's choosing, may fail before or after taking effect. */
class SlowStore implements ClaimStore {
  readonly inner = new MemoryClaimStore();
  private readonly scheduler: fc.Scheduler;
  private readonly faults: { next: () => number };

  constructor(scheduler: fc.Scheduler, faults: { next: () => number }) {
    this.scheduler = scheduler;
    this.faults = faults;
  }

  async list(): Promise<readonly Claim[]> {
    return this.inner.list();
  }

  async put(claim: Claim): Promise<void> {
    await this.faulty('put', () => this.inner.put(claim));
  }

  async remove(claim: Claim): Promise<void> {
    await this.faulty('remove', () => this.inner.remove(claim));
  }

  async markPreempted(claim: Claim): Promise<void> {
    await this.inner.markPreempted(claim);
  }

  private async faulty(name: string, act: () => Promise<void>): Promise<void> {
    const fault = this.faults.next();
    await this.scheduler.schedule(Promise.resolve(), `${name} begins`);
    if (fault === 1) throw new Error('failed before');
    await act();
    await this.scheduler.schedule(Promise.resolve(), `${name} ends`);
    if (fault === 2) throw new Error('failed after');
  }
}

const capacity = 10;
const step = fc.oneof(
  fc.record({
    kind: fc.constant('hold' as const),
    id: fc.integer({ min: 0, max: 9 }),
    cpu: fc.integer({ min: 1, max: 6 }),
    start: fc.integer({ min: 0, max: 4 }),
    length: fc.option(fc.integer({ min: 1, max: 4 }), { nil: undefined }),
    as: fc.constantFrom('Firm', 'Preemptible', 'Reservation', 'Draining', 'Drawn'),
    from: fc.integer({ min: 0, max: 9 }),
  }),
  fc.record({ kind: fc.constant('confirm' as const), id: fc.integer({ min: 0, max: 9 }) }),
  fc.record({ kind: fc.constant('release' as const), id: fc.integer({ min: 0, max: 9 }) }),
  fc.record({ kind: fc.constant('advance' as const), seconds: fc.integer({ min: 1, max: 20 }) }),
  fc.record({ kind: fc.constant('clockStep' as const), seconds: fc.integer({ min: -3_600, max: 3_600 }) }),
  fc.record({ kind: fc.constant('settle' as const) }),
  fc.record({ kind: fc.constant('crash' as const) }),
);

test('whatever clients, crashes, clock steps and a failing store do, the node never promises more than it has', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.scheduler(),
      fc.array(step, { minLength: 5, maxLength: 40 }),
      fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 1, maxLength: 30 }),
      async (scheduler, steps, faultList) => {
        let fault = 0;
        const store = new SlowStore(scheduler, { next: () => faultList[fault++ % faultList.length] ?? 0 });
        const clock = new VirtualClock();
        const open = async (): Promise<Ledger> => {
          const ledger = new Ledger(clock, store);
          ledger.setAllocatable({ cpu: capacity });
          await ledger.open();
          return ledger;
        };
        let ledger = await open();
        const acknowledged = new Map<string, Claim>();
        const pending: Promise<unknown>[] = [];
        const check = async (): Promise<void> => {
          const promised = ledger.claims().map(({ claim }) => claim);
          const stored = await store.inner.list();
          for (const claims of [promised, stored]) {
            expect(peakOf(claims)).toBeLessThanOrEqual(capacity);
            for (const reservation of claims.filter(({ isReservation }) => isReservation)) {
              const drawn = claims.filter((claim) => claim.reservation === reservation.id);
              expect(peakUse(drawn, always).cpu ?? 0).toBeLessThanOrEqual(reservation.demand.cpu ?? 0);
            }
          }
          for (const id of acknowledged.keys()) expect(stored.map((claim) => claim.id)).toContain(id);
        };
        for (const one of steps) {
          if (one.kind === 'advance') clock.advance(1_000 * one.seconds);
          else if (one.kind === 'clockStep') clock.step(1_000 * one.seconds);
          else if (one.kind === 'settle') pending.push(ledger.settle());
          else if (one.kind === 'crash') {
            // What was being written may still arrive; the new process waits for it as an API server would order it.
            await scheduler.waitIdle();
            await Promise.allSettled(pending.splice(0));
            ledger = await open();
          } else if (one.kind === 'hold') {
            const startMs = clock.now() + 10_000 * one.start;
            const endMs = one.length === undefined ? Infinity : startMs + 10_000 * one.length;
            const { id } = one;
            const isNew = !ledger.claims().some(({ claim }) => claim.id === `c${id}`);
            const answer = ledger.hold({
              ...{ id: `c${id}`, owner: 'o', virtualOrganization: 'v', demand: { cpu: one.cpu }, ttlMs: 15_000 },
              ...{ span: { startMs, endMs }, isPreemptible: one.as === 'Preemptible' },
              ...{
                isReservation: one.as === 'Reservation' || one.as === 'Draining',
                isDraining: one.as === 'Draining',
              },
              ...(one.as === 'Drawn' ? { reservation: `c${one.from}` } : {}),
            });
            // Work is never put on top of what is there at the moment, whether that gives way or not.
            const isWork = one.as === 'Firm' || one.as === 'Preemptible';
            if (answer.granted && isNew && isWork && one.start === 0) {
              const now = { startMs: clock.now(), endMs: clock.now() + 1 };
              const all = ledger.claims().map(({ claim }) => claim);
              expect(peakUse(all.filter(notDrawn(all)), now).cpu).toBeLessThanOrEqual(capacity);
            }
          } else {
            const id = `c${one.id}`;
            const target = ledger;
            if (one.kind === 'confirm') {
              pending.push(
                target.confirm(id, 'o').then(() => {
                  const entry = target.claims().find(({ claim, stage }) => claim.id === id && stage === 'Confirmed');
                  if (entry?.claim.span.endMs === Infinity) acknowledged.set(id, entry.claim);
                }),
              );
            } else {
              acknowledged.delete(id);
              pending.push(target.release(id, 'o').finally(() => acknowledged.delete(id)));
            }
          }
          for (const promise of pending) promise.catch(() => undefined);
          await Promise.resolve();
          if (scheduler.count() > 0) await scheduler.waitNext(1);
          await check();
        }
        await scheduler.waitIdle();
        await Promise.allSettled(pending);
        await check();
      },
    ),
    { numRuns: 300 },
  );
}, 60_000);

test('the peak of a calendar is what is found by looking at every moment', () => {
  const booking: fc.Arbitrary<Booking> = fc
    .tuple(fc.integer({ min: 0, max: 20 }), fc.integer({ min: 1, max: 10 }), fc.integer({ min: 0, max: 9 }))
    .map(([startMs, length, cpu]) => ({ span: { startMs, endMs: startMs + length }, demand: { cpu } }));
  fc.assert(
    fc.property(fc.array(booking, { maxLength: 12 }), booking, (bookings, { span }) => {
      let most = 0;
      for (let at = span.startMs; at < span.endMs; at++) {
        const here = bookings.filter((one) => one.span.startMs <= at && at < one.span.endMs);
        most = Math.max(
          most,
          here.reduce((sum, one) => sum + (one.demand.cpu ?? 0), 0),
        );
      }
      expect(peakUse(bookings, span).cpu ?? 0).toBe(most);
    }),
  );
});

const always = { startMs: -Infinity, endMs: Infinity };

/** What does not give way never exceeds what there is, at any moment; what is drawn lies within its reservation. */
function peakOf(claims: readonly Claim[]): number {
  return (
    peakUse(
      claims.filter(notDrawn(claims)).filter((claim) => !claim.isPreemptible),
      always,
    ).cpu ?? 0
  );
}

function notDrawn(claims: readonly Claim[]): (claim: Claim) => boolean {
  const reservations = new Set(claims.filter(({ isReservation }) => isReservation).map(({ id }) => id));
  return ({ reservation }) => reservation === undefined || !reservations.has(reservation);
}
