import { readFile } from 'node:fs/promises';
import { InvalidInputError } from '#common/errors.ts';
import { whoamiAnswer } from '#common/identity/gateway-api.ts';
import { writeContexts } from '../../api/contexts.ts';
import { gatewayAt, parseAnswer } from '../../api/gateway.ts';
import { kubeconfigFiles } from '../../api/kubeconfig.ts';
import { kubernetesCredential, sendAsSession, type SessionPorts } from '../../api/session.ts';
import { sessionPorts } from '../../api/session-ports.ts';
import { withAnswer } from '../../api/sessions.ts';
import type { Context } from '../../frame/context.ts';
import { parseDurationMs } from '../../frame/options.ts';
import { findGateway, type FindInput } from './find-gateway.ts';
import { chooseMethod, type MethodInput, openSession } from './methods.ts';

interface LoginInput extends FindInput, MethodInput {
  readonly skipContexts: boolean;
  readonly timeout: string | undefined;
}

/** `xos login`. */
export async function login(context: Context, input: LoginInput): Promise<void> {
  const limitMs = input.timeout === undefined ? undefined : parseDurationMs(input.timeout, '--timeout');
  const found = await findGateway(context, input);
  const gateway = gatewayAt(found, `xos/${context.version}`, context.clock, context.signal);
  const method = chooseMethod(found.site, input);
  const answer = await openSession(context, gateway, method, input, limitMs);
  const { site } = found.site;
  const ports = sessionPorts(context);
  await ports.store.update(site, async () => {
    const { address, caBundle } = found;
    return withAnswer({ version: 1 as const, site, address, caBundle, kubernetes: {} }, answer);
  });
  const { issuer, subject } = answer.principal;
  context.terminal.print(`You are logged in at ${site} as ${subject} (${issuer}) until ${answer.expiresAt}`);
  await setUpContexts(context, ports, site, input);
}

/** Writes a context for each virtual organization that the caller may work in. */
async function setUpContexts(context: Context, ports: SessionPorts, site: string, input: LoginInput): Promise<void> {
  const { terminal, program } = context;
  const { memberships } = parseAnswer(
    whoamiAnswer,
    await sendAsSession(site, ports, { method: 'GET', path: '/v1/whoami' }),
  );
  for (const name of input.vo) {
    if (!memberships.some(({ virtualOrganization }) => virtualOrganization === name)) {
      throw new InvalidInputError('--vo', `you are no member of ${name} here; ask to join: ${program} vo join ${name}`);
    }
  }
  const wanted = memberships.filter(
    ({ virtualOrganization }) => input.vo.length === 0 || input.vo.includes(virtualOrganization),
  );
  for (const { virtualOrganization, reason, usable } of wanted) {
    if (!usable) terminal.warn(`you can not work in ${virtualOrganization} now: ${reason}`);
  }
  const usable = wanted.filter((membership) => membership.usable).map((membership) => membership.virtualOrganization);
  if (memberships.length === 0) {
    terminal.hint(`You are no member yet. Ask to join: ${program} vo join NAME`);
    terminal.hint(`Or tell an administrator who you are: ${program} whoami -o name`);
  }
  if (usable.length === 0 || input.skipContexts) return;
  const contexts = [];
  for (const virtualOrganization of usable) {
    terminal.progress(`Setting up kubectl for ${virtualOrganization}`);
    const credential = await kubernetesCredential(site, virtualOrganization, ports);
    contexts.push({ site, virtualOrganization, credential });
  }
  const [file] = kubeconfigFiles(input.kubeconfig, context.surroundings);
  if (file === undefined) return;
  await writeContexts(file, contexts, { command: await ownCommand(), makeCurrent: usable.length === 1 });
  const names = usable.map((vo) => `xos-${site}-${vo}`);
  terminal.print(`Contexts in ${file}: ${names.join(', ')}`);
  const [first] = names;
  const use = usable.length === 1 ? 'It is the current one' : `Choose one: kubectl config use-context ${first ?? ''}`;
  terminal.hint(`${use}; see your pods: kubectl get pods`);
}

/** How kubectl can start this program: its file where that is a program, since PATH may be another one then. */
async function ownCommand(): Promise<string> {
  const file = process.argv[1] ?? '';
  const start = await readFile(file, { encoding: 'utf8' }).catch(() => '');
  const isProgram = start.startsWith('#!') && !file.endsWith('.ts');
  return isProgram ? file.replace(/kubectl-xos$/, 'xos') : 'xos';
}
