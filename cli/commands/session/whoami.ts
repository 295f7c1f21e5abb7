import { type WhoamiAnswer, whoamiAnswer } from '#common/identity/gateway-api.ts';
import { parseAnswer } from '../../api/gateway.ts';
import { sendAsSession } from '../../api/session.ts';
import { chooseSite, sessionPorts } from '../../api/session-ports.ts';
import type { Context } from '../../frame/context.ts';
import type { OutputFormat } from '../../frame/options.ts';
import { escapeControls } from '../../output/escape.ts';
import { serialize } from '../../output/print.ts';
import { type Column, formatFacts, formatTable } from '../../output/table.ts';

type Membership = WhoamiAnswer['memberships'][number];

const columns: readonly Column<Membership>[] = [
  { name: 'vo', value: ({ virtualOrganization }) => virtualOrganization },
  { name: 'state', value: ({ state }) => state },
  { name: 'user', value: ({ userName }) => userName },
  { name: 'uid', value: ({ uid }) => uid },
  { name: 'groups', value: ({ groups }) => groups.map(({ name }) => name).join(',') },
  { name: 'roles', value: ({ roles }) => roles.join(',') },
  { name: 'expires', isWide: true, value: ({ expiresAt }) => expiresAt },
  { name: 'usable', value: ({ usable, reason }) => (usable ? 'yes' : `no: ${reason}`) },
];

/** `xos whoami`. */
export async function whoami(
  context: Context,
  input: { readonly site: string | undefined; readonly output: OutputFormat },
): Promise<void> {
  const { terminal, program } = context;
  const ports = sessionPorts(context);
  const site = await chooseSite(ports.store, input.site);
  const answer = parseAnswer(whoamiAnswer, await sendAsSession(site, ports, { method: 'GET', path: '/v1/whoami' }));
  const { principal, memberships, virtualOrganizations } = answer;
  if (input.output === 'json' || input.output === 'yaml') {
    terminal.print(await serialize(input.output, answer));
    return;
  }
  if (input.output === 'name') {
    terminal.print(escapeControls(`${principal.issuer}#${principal.subject}`));
    return;
  }
  terminal.print(
    formatFacts([
      ['Site', answer.site],
      ['Issuer', principal.issuer],
      ['Subject', principal.subject],
      ['Session ends', answer.expiresAt],
      ['Session is for', virtualOrganizations?.join(', ')],
    ]),
  );
  if (memberships.length === 0) {
    terminal.hint(`You are no member of a virtual organization here. Ask to join one: ${program} vo join NAME`);
    terminal.hint(`Or tell an administrator who you are: ${program} whoami -o name`);
    return;
  }
  const heading = (text: string): string => terminal.heading(text);
  terminal.print(`\n${formatTable(memberships, columns, { isWide: input.output === 'wide', heading })}`);
  const known = (await ports.store.find(site))?.kubernetes ?? {};
  const fresh = memberships.filter((each) => each.usable && known[each.virtualOrganization] === undefined);
  const names = fresh.map(({ virtualOrganization }) => virtualOrganization).join(', ');
  if (fresh.length > 0) terminal.hint(`Log in again to set up kubectl for ${names}: ${program} login`);
}
