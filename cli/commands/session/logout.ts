import { describeError } from '#common/errors.ts';
import { removeContexts } from '../../api/contexts.ts';
import { GatewayError } from '../../api/gateway.ts';
import { kubeconfigFiles } from '../../api/kubeconfig.ts';
import { sendAsSession, type SessionPorts } from '../../api/session.ts';
import { chooseSite, sessionPorts } from '../../api/session-ports.ts';
import type { Context } from '../../frame/context.ts';

/** `xos logout`. */
export async function logout(
  context: Context,
  input: { readonly site: string | undefined; readonly all: boolean; readonly kubeconfig: string | undefined },
): Promise<void> {
  const ports = sessionPorts(context);
  const sites = input.all ? await ports.store.sites() : [await chooseSite(ports.store, input.site)];
  for (const site of sites) await leave(context, ports, site, kubeconfigFiles(input.kubeconfig, context.surroundings));
}

/** Ends the session even when the gateway can't be told: what is stored here is removed in any case. */
async function leave(context: Context, ports: SessionPorts, site: string, files: readonly string[]): Promise<void> {
  const { terminal } = context;
  try {
    await sendAsSession(site, ports, { method: 'DELETE', path: '/v1/sessions' });
  } catch (error) {
    const isOver = error instanceof GatewayError && error.reason === 'credentials';
    if (!isOver) {
      const left = (await ports.store.find(site).catch(() => undefined))?.expiresAt;
      const until = left === undefined ? '' : ` It ends by itself at ${left}.`;
      terminal.warn(`The gateway of ${site} could not be told: ${describeError(error)}.${until}`);
    }
  }
  await ports.store.update(site, async () => undefined);
  const removed = (await Promise.all(files.map(async (file) => removeContexts(file, site)))).flat();
  const contexts = removed.length === 0 ? '' : `; removed ${removed.join(', ')} from the kubeconfig`;
  terminal.print(`You are logged out at ${site}${contexts}`);
}
