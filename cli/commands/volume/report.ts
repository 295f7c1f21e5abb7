import type { Volume } from '#crds/volume.ts';
import type { Stored } from '#runtime/types.ts';
import type { VolumeApi } from '../../api/volumes.ts';
import { conditionOf, explain, isObserved, waitUntil } from '../../api/waiting.ts';
import type { Context } from '../../frame/context.ts';
import type { OutputFormat } from '../../frame/options.ts';
import { dryRunNote, printObject } from '../../output/print.ts';
import { volumePrinting } from './printing.ts';

/** Options of commands that make or change a Volume. */
export interface ReportInput {
  readonly dryRun: boolean;
  readonly wait: boolean;
  readonly timeout: number;
  readonly output: OutputFormat;
}

/** Tells what was done; with `--wait`, once the conditions `wanted` hold for what is declared. */
export async function report(
  context: Context,
  { volumes }: Pick<VolumeApi, 'volumes'>,
  changed: Stored<Volume>,
  input: ReportInput,
  { did, wanted }: { readonly did: string; readonly wanted: readonly string[] },
): Promise<void> {
  const { terminal, clock } = context;
  const { name, namespace } = changed.metadata;
  const missing = (volume: Volume): string | undefined =>
    wanted.find((type) => !isObserved(volume) || conditionOf(volume, type)?.status !== 'True');
  const seen =
    input.wait && !input.dryRun
      ? await waitUntil(
          context,
          volumes,
          { name, namespace },
          {
            what: `${name} to be ${wanted.join(' and ')}`,
            timeoutMs: input.timeout,
            isDone: (volume) => volume === undefined || missing(volume) === undefined,
            why: (volume) => explain(volume, (volume === undefined ? undefined : missing(volume)) ?? 'Ready'),
          },
        )
      : changed;
  if (input.output === 'table') terminal.print(`${did}${dryRunNote(input.dryRun)}`);
  else await printObject(terminal, input.output, seen ?? changed, volumePrinting(clock.now()));
}
