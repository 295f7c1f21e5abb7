/** Options of `vo create` and `vo edit` as a patch of the spec. */
import { readInput } from '../../api/input.ts';

/** Options that both take. */
export interface FieldInput {
  readonly description: string | undefined;
  readonly enrolment: 'Closed' | 'Approval' | 'Open' | undefined;
  readonly acceptableUse: string | undefined;
  readonly isolation: 'Namespace' | 'UserNamespace' | 'Sandbox' | 'DedicatedNode' | undefined;
  readonly cpu: string | undefined;
  readonly memory: string | undefined;
  readonly storage: string | undefined;
  readonly secondAdministrator: boolean;
  readonly delay: number | undefined;
}

/** What the options say about the spec; empty when none was given. Lists are not among it. */
export async function specOf(input: FieldInput): Promise<Record<string, unknown>> {
  const use =
    input.acceptableUse === undefined ? undefined : (await readInput(input.acceptableUse, '--acceptable-use')).trim();
  const { cpu, memory, storage } = input;
  return present({
    description: input.description,
    enrolment: present({
      mode: input.enrolment,
      // An empty file takes the acceptable use away.
      acceptableUse: use === undefined ? undefined : use === '' ? null : { text: use },
    }),
    isolation: present({ minimum: input.isolation }),
    quota: present({ cpu, memory, storage }),
    governance: present({
      secondAdministrator: input.secondAdministrator ? true : undefined,
      delaySeconds: input.delay,
    }),
  });
}

/** Without what is undefined or has nothing in it. */
function present(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).filter(([, value]) => {
      if (value === undefined) return false;
      return value === null || typeof value !== 'object' || Object.keys(value).length > 0;
    }),
  );
}
