import type { Context } from '../frame/context.ts';
import { CommandError } from '../frame/exit.ts';
import { gatewayAt } from './gateway.ts';
import type { SessionPorts } from './session.ts';
import { SessionStore } from './sessions.ts';

/** The stored sessions and real gateways. */
export function sessionPorts({ surroundings, version, clock, signal }: Context): SessionPorts {
  return {
    store: new SessionStore(surroundings),
    connect: (address) => gatewayAt(address, `xos/${version}`, clock, signal),
    now: () => clock.now(),
  };
}

/**
 * The site that is meant: the one named, or the only one with a session.
 * @throws {CommandError} when there is none, or there are several.
 */
export async function chooseSite(store: SessionStore, named: string | undefined): Promise<string> {
  if (named !== undefined) return named;
  const sites = await store.sites();
  const [only] = sites;
  if (only === undefined)
    throw new CommandError('credentials', 'You are not logged in at any site', 'Log in: xos login');
  if (sites.length === 1) return only;
  throw new CommandError('usage', `You are logged in at ${sites.join(', ')}`, 'Say which one is meant with --site.');
}
