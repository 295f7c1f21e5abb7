/** What the pages of a device login say: who asks, from where, for what, and for how long. */
import type { Principal } from '#common/identity/ids.ts';
import { escapeHtml } from '#common/html.ts';
import type { DeviceRequest } from '../login/device-logins.ts';
import { facts, page } from './page.ts';

/** What a program would get of one virtual organization. */
export interface Right {
  readonly virtualOrganization: string;
  readonly roles: readonly string[];
  /** What the person could not do there either, and why; undefined when they may act. */
  readonly problem: string | undefined;
  readonly userName: string | undefined;
}

/** Where and when a page is looked at. */
export interface Viewing {
  readonly site: string;
  /** Address of the browser. */
  readonly address: string;
  readonly nowMs: number;
}

const rolesMean: Readonly<Record<string, string>> = {
  administrator:
    'decides who is a member and with which rights, sees, changes and stops everything of the organization',
  member: 'runs jobs and pods, reads and writes data',
  observer: 'sees what the organization does, changes nothing',
};
const warning = (
  remedy: string,
): string => `<p class="warning">Has somebody sent you this link or this code, or have you not started a login just now? Then it is not yours: whoever started it
would act in your name. ${remedy}, and tell the owner of the site.</p>`;

/** Where a code is typed. */
export function codePage({ site }: Viewing): string {
  return page(
    `Log in a program at ${site}`,
    `<form method="get" action="/device"><label>The code that the program shows<input name="code" required autocomplete="off" autocapitalize="characters" maxlength="12" placeholder="XXXX-XXXX"></label>
<button class="go">Continue</button></form>${warning('Close this page')}`,
  );
}

/** What asks, before anybody logs in. @param issuer - of the provider that was chosen. */
export function requestPage(request: DeviceRequest, issuer: string, viewing: Viewing): string {
  return page(
    'Is this your login?',
    `<p>A program waits for somebody to log in at <b>${escapeHtml(viewing.site)}</b>. Go on only if you have just started it yourself, and it shows this code:</p>
<p class="code">${escapeHtml(request.userCode)}</p>
${facts([
  ...asker(request, viewing),
  ['It wants', `to act in your name for ${scopeOf(request)}; you see your rights there before you agree`],
  ['You log in with', `${request.provider} (${issuer})`],
])}
${warning('Close this page')}
<form method="post" action="/device/login"><input type="hidden" name="code" value="${escapeHtml(request.userCode)}">
<button class="go">It is mine: log in</button></form>`,
  );
}

/** What the program gets, for the person to allow or to refuse. @param endsMs - end of the session. */
export function consentPage(
  request: DeviceRequest,
  principal: Principal,
  rights: readonly Right[],
  viewing: Viewing,
  endsMs: number,
): string {
  const rows = rights.map(
    (right) =>
      `<tr><td><b>${escapeHtml(right.virtualOrganization)}</b></td><td>${escapeHtml(right.roles.join(', ') || 'none')}</td><td>${escapeHtml(meaningOf(right))}</td></tr>`,
  );
  const none = '<tr><td colspan="3">You are no member here yet: it may ask to join in your name.</td></tr>';
  return page(
    'Let this program act in your name?',
    `<p>You are <b>${escapeHtml(principal.subject)}</b> of <b>${escapeHtml(principal.issuer)}</b>. Allow this only if the program shows the same code:</p>
<p class="code">${escapeHtml(request.userCode)}</p>
${facts([
  ...asker(request, viewing),
  ['At site', viewing.site],
  ['For', scopeOf(request)],
  ['Until', `${moment(endsMs)}, or until you end it with xos logout`],
])}
<h2>What it gets</h2>
<table><thead><tr><th scope="col">Organization</th><th scope="col">Your roles</th><th scope="col">What it can do with them</th></tr></thead>
<tbody>${rows.length === 0 ? none : rows.join('\n')}</tbody></table>
<p>Its tokens are taken at every site that serves these organizations. It gets nothing else: not your password, and no rights over a site.</p>
${warning('Refuse')}
<form method="post" action="/device/decision"><button name="decision" value="refuse">Refuse</button>
<button class="go" name="decision" value="allow">Allow</button></form>`,
  );
}

/** What came of it. */
export function decidedPage(isAllowed: boolean): string {
  return isAllowed
    ? page('Allowed', '<p>The program goes on. This page can be closed.</p>')
    : page(
        'Refused',
        '<p>The program gets nothing. If somebody sent you the link or the code, tell the owner of the site.</p>',
      );
}

function asker({ program, address, beganMs }: DeviceRequest, viewing: Viewing): (readonly [string, string])[] {
  const isHere = address === viewing.address;
  const minutes = Math.max(0, Math.floor((viewing.nowMs - beganMs) / 60_000));
  const ago = minutes === 0 ? 'less than a minute ago' : `${minutes} min ago`;
  return [
    ['Program', program === '' ? 'does not say what it is' : `${program} (so it calls itself)`],
    [
      'Asks from',
      `${address}, ${isHere ? 'the address of this browser too' : `another address than that of this browser (${viewing.address})`}`,
    ],
    ['Asked', `${moment(beganMs)}, ${ago}`],
  ];
}

function scopeOf({ virtualOrganizations }: DeviceRequest): string {
  if (virtualOrganizations === undefined)
    return 'every virtual organization that you are a member of, and those that you join';
  return `${virtualOrganizations.length === 1 ? 'the virtual organization' : 'the virtual organizations'} ${virtualOrganizations.join(', ')} alone`;
}

function meaningOf({ roles, problem, userName }: Right): string {
  if (problem !== undefined) return `nothing now: ${problem}`;
  const meanings = roles.map((role) => rolesMean[role] ?? `what the organization gives to the role ${role}`);
  return `${userName === undefined ? '' : `as ${userName}: `}${meanings.join('; ')}`;
}

function moment(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 16).replace('T', ' ')} UTC`;
}
