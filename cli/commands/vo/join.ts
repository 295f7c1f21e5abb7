import { InvalidInputError } from '#common/errors.ts';
import { joinAnswer } from '#common/identity/gateway-api.ts';
import type { ClusterInput } from '../../api/cluster.ts';
import { parseAnswer } from '../../api/gateway.ts';
import { chooseOrganization } from '../../api/organizations.ts';
import { confirm } from '../../api/question.ts';
import { sendAsSession, type SessionPorts } from '../../api/session.ts';
import { chooseSite, sessionPorts } from '../../api/session-ports.ts';
import type { Context } from '../../frame/context.ts';
import { CommandError } from '../../frame/exit.ts';
import { escapeControls } from '../../output/escape.ts';

interface JoinInput {
  readonly site: string | undefined;
  readonly accept: string | undefined;
}

/** `xos vo join`. */
export async function join(
  context: Context,
  input: JoinInput & { readonly name: string; readonly handle: string | undefined },
): Promise<void> {
  const ports = sessionPorts(context);
  const site = await chooseSite(ports.store, input.site);
  return askToJoin(context, ports, { ...input, site });
}

/** `xos vo accept-use`. */
export async function acceptUse(
  context: Context,
  input: JoinInput & ClusterInput & { readonly name: string | undefined },
): Promise<void> {
  const ports = sessionPorts(context);
  const site = await chooseSite(ports.store, input.site);
  const name = input.name ?? (await organizationOfContext(context, input));
  return askToJoin(context, ports, { ...input, name, site, handle: undefined });
}

async function organizationOfContext(context: Context, input: ClusterInput): Promise<string> {
  const { readKubeconfig } = await import('../../api/kubeconfig.ts');
  const config = await readKubeconfig(input.kubeconfig, context.surroundings);
  const current = config.contexts.get(input.context ?? config.currentContext ?? '');
  try {
    return chooseOrganization({ vo: undefined, namespace: undefined }, current?.namespace ?? 'default');
  } catch {
    throw new InvalidInputError('NAME', 'is needed: name the virtual organization');
  }
}

/** Asks, and asks again with the acceptance when there is a text to accept and the user agrees. */
export async function askToJoin(
  context: Context,
  ports: SessionPorts,
  input: JoinInput & { readonly name: string; readonly site: string; readonly handle: string | undefined },
): Promise<void> {
  const { terminal } = context;
  const { name, site, handle, accept } = input;
  const path = `/v1/virtual-organizations/${encodeURIComponent(name)}/requests`;
  const ask = async (acceptedUse: string | undefined) => {
    const body = { ...(acceptedUse === undefined ? {} : { acceptedUse }), ...(handle === undefined ? {} : { handle }) };
    return parseAnswer(joinAnswer, await sendAsSession(site, ports, { method: 'POST', path, body }));
  };
  let answer = await ask(accept);
  const use = answer.acceptableUse;
  if (use !== undefined && accept === undefined) {
    terminal.say(`Acceptable use of ${name}:\n\n${escapeControls(use.text, '\n')}\n`);
    if (!(await confirm(context, 'Do you accept it?', `--accept ${use.digest}`))) {
      throw new CommandError('interrupted', `You did not accept it; your membership stays ${answer.state}`);
    }
    answer = await ask(use.digest);
  }
  terminal.print(`You are ${answer.state} in ${name}. ${escapeControls(answer.message)}`);
  if (answer.state === 'Active') terminal.hint(`Set up kubectl for it: ${context.program} login --vo ${name}`);
}
