import { InvalidInputError } from '#common/errors.ts';
import type { Reservation } from '#crds/reservation.ts';
import { withJobs } from '../../api/jobs.ts';
import type { OrganizationInput } from '../../api/organizations.ts';
import { conditionOf, explain, waitUntil } from '../../api/waiting.ts';
import type { Context } from '../../frame/context.ts';
import type { OutputFormat } from '../../frame/options.ts';
import { printObject } from '../../output/print.ts';
import type { Column } from '../../output/table.ts';
import { formatAge, parseMoment } from '../../output/times.ts';
import { type NeedsInput, needsOf, resourcesOf } from './draft.ts';

interface ReserveInput extends OrganizationInput, NeedsInput {
  readonly name: string;
  readonly slots: number;
  readonly start: string | undefined;
  readonly end: string | undefined;
  readonly for: number | undefined;
  readonly every: 'Day' | 'Week' | undefined;
  readonly until: string | undefined;
  readonly atStart: string | undefined;
  readonly group: readonly string[];
  readonly member: readonly string[];
  readonly dryRun: boolean;
  readonly wait: boolean;
  readonly timeout: number;
  readonly output: OutputFormat;
}

/** `xos reserve`. */
export async function reserve(context: Context, input: ReserveInput): Promise<void> {
  const { terminal, signal, clock, program } = context;
  const spec = reservationSpec(input, clock.now());
  return withJobs(context, input, async ({ reservations, namespace }) => {
    const draft = { metadata: { name: input.name, namespace }, spec } as Reservation;
    const made = await reservations.create(draft, { dryRun: input.dryRun, signal });
    const seen =
      input.wait && !input.dryRun
        ? await waitUntil(context, reservations, made.metadata, {
            what: `${input.name} to be held`,
            timeoutMs: input.timeout,
            isDone: (found) => found === undefined || conditionOf(found, 'Held')?.status === 'True',
            why: (found) => explain(found, 'Held'),
          })
        : made;
    await printObject(terminal, input.output, seen ?? made, reservationPrinting(clock.now()));
    if (!input.dryRun) {
      terminal.hint(
        `Use it: ${program} sub IMAGE --reservation ${input.name}. Give it back: kubectl delete reservation ${input.name}`,
      );
    }
  });
}

/** The spec that the options describe. Pure. @throws {InvalidInputError} naming the option. */
export function reservationSpec(input: ReserveInput, nowMs: number): object {
  const { slots, start, end, every, until, atStart, group, member } = input;
  if ((end === undefined) === (input.for === undefined)) {
    throw new InvalidInputError('--for', 'or --end must say how long it lasts, and not both');
  }
  if ((every === undefined) !== (until === undefined)) {
    throw new InvalidInputError('--every', 'and --until belong together: how often, and until when');
  }
  const moment = (text: string | undefined, flag: string): string | undefined =>
    text === undefined ? undefined : parseMoment(text, flag, nowMs);
  const window = {
    start: moment(start, '--start'),
    end: moment(end, '--end'),
    durationSeconds: input.for,
    recurrence: every === undefined ? undefined : { every, until: moment(until, '--until') },
  };
  const sharedWith = group.length + member.length === 0 ? undefined : { groups: group, members: member };
  // JSON leaves out what is undefined.
  return { slots, resources: resourcesOf(input) ?? {}, ...needsOf(input), window, atStart, sharedWith };
}

function reservationPrinting(nowMs: number) {
  const columns: Column<Reservation>[] = [
    { name: 'name', value: ({ metadata }) => metadata.name },
    { name: 'owner', value: ({ spec }) => spec.owner },
    { name: 'state', value: ({ status }) => status?.state ?? 'Pending' },
    { name: 'slots', value: ({ spec }) => spec.slots },
    { name: 'start', value: ({ status, spec }) => status?.windows?.[0]?.start ?? spec.window.start },
    { name: 'end', value: ({ status, spec }) => status?.windows?.[0]?.end ?? spec.window.end },
    { name: 'reason', isWide: true, value: (one) => conditionOf(one, 'Held')?.reason },
    { name: 'age', value: ({ metadata }) => formatAge(metadata.creationTimestamp, nowMs) },
  ];
  return { resource: 'reservation.xtreemos.io', columns };
}
