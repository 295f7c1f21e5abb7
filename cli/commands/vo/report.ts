/** What commands say after a change: the object as asked for, then what to do next. */
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { Stored } from '#runtime/types.ts';
import { findVisible, type Organizations } from '../../api/organizations.ts';
import { conditionOf, explain, isObserved, waitUntil } from '../../api/waiting.ts';
import type { Context } from '../../frame/context.ts';
import type { OutputFormat } from '../../frame/options.ts';
import { dryRunNote, printObject } from '../../output/print.ts';
import { nextSteps } from './next.ts';
import { voPrinting } from './printing.ts';

/** Options that decide how a change is reported. */
export interface ReportInput {
  readonly output: OutputFormat;
  readonly dryRun: boolean;
  readonly wait: boolean;
  readonly timeout: number;
}

/** Waits where asked to, prints the object in machine formats or says what was done, and what comes next. */
export async function report(
  context: Context,
  api: Pick<Organizations, 'organizations'>,
  vo: Stored<VirtualOrganization>,
  input: ReportInput,
  { did, wanted }: { readonly did: string; readonly wanted: VirtualOrganization['spec']['state'] },
): Promise<void> {
  const { terminal, clock, program } = context;
  let current = vo;
  if (input.wait && !input.dryRun) current = await waitForState(context, api, vo, wanted, input.timeout);
  if (input.output !== 'table') await printObject(terminal, input.output, current, voPrinting(clock.now()));
  else terminal.print(`${did}${dryRunNote(input.dryRun)}`);
  if (!input.dryRun) for (const step of nextSteps(current, program)) terminal.hint(step);
}

async function waitForState(
  context: Context,
  api: Pick<Organizations, 'organizations'>,
  vo: Stored<VirtualOrganization>,
  wanted: VirtualOrganization['spec']['state'],
  timeoutMs: number,
): Promise<Stored<VirtualOrganization>> {
  const { name } = vo.metadata;
  const { signal, program } = context;
  // Who forms one may look at it once the site accepts it, which gives its administrators their rights.
  const find = async (): Promise<Stored<VirtualOrganization> | undefined> =>
    findVisible(api.organizations, { name }, signal);
  const found = await waitUntil(
    context,
    { find },
    { name },
    {
      what: `${name} to be ${wanted}`,
      timeoutMs,
      isDone: (seen) => {
        if (seen === undefined) return false;
        const isReady = wanted !== 'Operational' || conditionOf(seen, 'Ready')?.status === 'True';
        return isObserved(seen) && seen.status?.state === wanted && isReady;
      },
      why: (seen) =>
        seen === undefined
          ? `the owner of the site lets it in first (${program} vo approve ${name}); until then you may not see it`
          : explain(seen, 'Ready'),
    },
  );
  return found ?? vo;
}
