import type { VOMembership } from '#crds/vo-membership.ts';
import { InvalidInputError } from '#common/errors.ts';
import { chooseOrganization, namespaceOf, type Organizations, withOrganizations } from '../../api/organizations.ts';
import { parsePrincipal } from '../../api/principals.ts';
import type { Context } from '../../frame/context.ts';
import { CommandError } from '../../frame/exit.ts';
import { parseMoment } from '../../output/times.ts';
import { type ChangeInput, waitForMember } from './change.ts';
import { nextSteps } from './show.ts';
import { dryRunNote } from '../../output/print.ts';

interface InviteInput extends ChangeInput {
  readonly name: string;
  readonly principal: string | undefined;
  readonly handle: string | undefined;
  readonly group: readonly string[];
  readonly role: readonly string[];
  readonly expires: string | undefined;
}

/** `xos member invite`. */
export async function invite(context: Context, input: InviteInput): Promise<void> {
  if (input.principal === undefined) {
    throw new InvalidInputError('--principal', 'is needed: ISSUER#SUBJECT, as the invited person sees with xos whoami');
  }
  const principal = parsePrincipal(input.principal, '--principal');
  return withOrganizations(context, input, async (api) => inviteMember(context, input, principal, api));
}

/** Makes the membership and tells about it. */
export async function inviteMember(
  context: Context,
  input: InviteInput,
  principal: VOMembership['spec']['principal'],
  api: Pick<Organizations, 'memberships' | 'organizations' | 'namespace'>,
): Promise<void> {
  const { signal, terminal, program } = context;
  const { name, dryRun, handle, group, role, expires } = input;
  const vo = chooseOrganization(input, api.namespace);
  const expirationTime = expires === undefined ? undefined : parseMoment(expires, '--expires', context.clock.now());
  const member = {
    metadata: { name, namespace: namespaceOf(vo) },
    spec: {
      principal,
      state: 'Active',
      groups: [...new Set(group)].map((path) => ({ name: path })),
      ...(handle === undefined ? {} : { handle }),
      ...(role.length === 0 ? {} : { roles: [...new Set(role)] }),
      ...(expirationTime === undefined ? {} : { expirationTime }),
    },
    // Defaults of the schema fill in what is left out.
  } as unknown as VOMembership;
  const created = await api.memberships.create(member, { dryRun, signal }).catch(async (error: unknown) => {
    throw await explainRefusal(error, vo, api, context);
  });
  const isDone = ({ status }: VOMembership): boolean => status?.uid !== undefined;
  const did = { did: 'has a user id', isInForce: isDone };
  const current = input.wait && !dryRun ? await waitForMember(context, api, created, input, did) : created;
  const { userName } = current.status ?? {};
  const as = userName === undefined ? '' : ` as ${userName}`;
  terminal.print(`Member ${name} of ${vo} is invited${as}${dryRunNote(dryRun)}`);
  if (dryRun) return;
  const steps = nextSteps(current, vo, program);
  for (const step of steps) terminal.hint(step);
  if (steps.length === 0) terminal.hint(`They begin with: ${program} login, then ${program} whoami`);
}

/** A missing namespace means that there is no such organization, or that it is not let in here. */
async function explainRefusal(
  error: unknown,
  vo: string,
  { organizations }: Pick<Organizations, 'organizations'>,
  { signal, program }: Context,
): Promise<unknown> {
  const isMissing = error instanceof Error && error.name === 'NotFoundError' && error.message.includes('namespaces');
  if (!isMissing) return error;
  const found = await organizations.find({ name: vo }, { signal }).catch(() => undefined);
  if (found === undefined) {
    return new CommandError(
      'notFound',
      `There is no virtual organization ${vo} here`,
      `See those there are: ${program} vo list`,
    );
  }
  const remedy = `The owner of the site lets it in: ${program} vo approve ${vo}. Then invite again.`;
  return new CommandError('failure', `${vo} has no namespace on this site yet`, remedy);
}
