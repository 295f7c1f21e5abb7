import { createHash, randomBytes } from 'node:crypto';
import { z } from 'zod';
import type { Clock } from '#common/clock.ts';
import { principalSchema } from '#common/identity/gateway-api.ts';
import type { Principal } from '#common/identity/ids.ts';
import type { RouteAnswer } from '../exchange.ts';
import type { DeviceLogins, DeviceRequest } from '../login/device-logins.ts';
import { openHandle } from '../login/handles.ts';
import type { Logins } from '../login/logins.ts';
import type { Members } from '../members.ts';
import { Refusal } from '../refusal.ts';
import type { Sealer } from '../sealing.ts';
import type { RequestContext, Route } from '../server.ts';
import { sessionMs } from '../sessions.ts';
import { codePage, consentPage, decidedPage, requestPage, type Right, type Viewing } from './consent.ts';

/** People have so long to read what they agree to, once they are logged in. */
const consentMs = 10 * 60_000;
/** Kept by the browser alone: no script reads it, no other host sets it, and other sites' forms come without it. */
const cookieName = '__Host-xos-device';
const cookieRules = 'Path=/; Secure; HttpOnly; SameSite=Lax';

/** Why nobody of that name can ever log in. */
const nameless: ReadonlySet<string> = new Set(['SystemSubject', 'SubjectInvalid']);

const consentSchema = z.strictObject({ device: z.string(), principal: principalSchema, endsMs: z.number() });
const codeForm = z.object({ code: z.string().max(32) });
const decisionForm = z.object({ decision: z.enum(['allow', 'refuse']) });

/** What the pages work with. */
export interface DevicePageParts {
  readonly logins: Logins;
  readonly devices: DeviceLogins;
  readonly members: Members;
  readonly sealer: () => Promise<Sealer>;
  readonly clock: Clock;
  readonly site: string;
  /** `host:port` under which users reach the gateway. */
  readonly address: string;
}

/**
 * The pages where somebody types the code of a device login, logs in at the provider, sees what the program gets, and allows or refuses it (threat 38).
 * Who agrees is whoever the provider sends back to this very browser: a link that was sent to somebody leads to these pages and nowhere past them.
 */
export function devicePages(parts: DevicePageParts): Route[] {
  const pages = new DevicePages(parts);
  const route = (
    name: string,
    method: Route['method'],
    path: string,
    handle: Route['handle'],
    more: { isAudited?: boolean; isLogin?: boolean } = {},
  ): Route => ({ name, method, path, handle, isPage: true, isAudited: false, isLogin: false, ...more });
  // Codes can be guessed, and a cookie can't: looking up a code is allowed as seldom as a login.
  const codes = { isLogin: true };
  return [
    route('device.read', 'GET', '/device', async (context) => pages.ask(context), codes),
    route('device.login', 'POST', '/device/login', async (context) => pages.logIn(context), codes),
    route('device.arrive', 'GET', '/device/callback', async (context) => pages.arrive(context)),
    route('device.consent', 'GET', '/device/consent', async (context) => pages.consent(context)),
    route('device.decide', 'POST', '/device/decision', async (context) => pages.decide(context), {
      isAudited: true,
    }),
  ];
}

class DevicePages {
  private readonly parts: DevicePageParts;

  constructor(parts: DevicePageParts) {
    this.parts = parts;
  }

  /** The code, and what asks with it. */
  async ask(context: RequestContext): Promise<RouteAnswer> {
    const code = context.query.get('code');
    if (code === null) return { status: 200, page: codePage(this.viewing(context)) };
    const request = await this.parts.devices.find(code, context.signal);
    const { issuer } = (await this.parts.logins.openID(request.provider)).provider;
    return { status: 200, page: requestPage(request, issuer, this.viewing(context)) };
  }

  /** On to the provider. What ends that login stays with this browser. */
  async logIn(context: RequestContext): Promise<RouteAnswer> {
    const { devices, logins, address } = this.parts;
    const { code } = read(codeForm, context.body);
    const { id, provider } = await devices.find(code, context.signal);
    const verifier = randomBytes(32).toString('base64url');
    const { handle, authorizationURL } = await (
      await logins.openID(provider)
    ).startCode({
      challenge: createHash('sha256').update(verifier).digest('base64url'),
      redirectURI: `https://${address}/device/callback`,
      device: id,
    });
    return { status: 303, headers: { location: authorizationURL, 'set-cookie': cookie(`${verifier}.${handle}`) } };
  }

  /** Back from the provider: now it is known who this is. */
  async arrive(context: RequestContext): Promise<RouteAnswer> {
    const { logins, sealer, clock, address } = this.parts;
    const [verifier = '', handle = ''] = (context.cookies.get(cookieName) ?? '').split('.', 2);
    if (handle === '') throw foreign();
    const opened = openHandle(await sealer(), handle, verifier, clock.now());
    if (opened.method !== 'code' || opened.device === undefined) throw foreign();
    const { device } = opened;
    const principal = await logins
      .finishCode(opened, `https://${address}/device/callback?${context.query.toString()}`)
      .catch(async (error: unknown) => {
        // Whoever this is, they can not log in here: the program need not wait.
        if (error instanceof Refusal && nameless.has(error.reason))
          await this.parts.devices.decide(device, undefined, context.signal);
        throw error;
      });
    const consent = { device, principal, endsMs: clock.now() + consentMs };
    const sealed = (await sealer()).seal('device-consent', consent);
    return { status: 303, headers: { location: '/device/consent', 'set-cookie': cookie(sealed) } };
  }

  /** What the program gets. */
  async consent(context: RequestContext): Promise<RouteAnswer> {
    const { principal, request } = await this.open(context);
    const endsMs = this.parts.clock.now() + sessionMs;
    const content = consentPage(request, principal, this.rights(request, principal), this.viewing(context), endsMs);
    return { status: 200, page: content };
  }

  /** Allows or refuses. */
  async decide(context: RequestContext): Promise<RouteAnswer> {
    const { principal, request } = await this.open(context);
    const { decision } = read(decisionForm, context.body);
    context.identify(principal);
    context.concern('Program', request.program);
    context.concern('Address', request.address);
    const isAllowed = decision === 'allow';
    await this.parts.devices.decide(request.id, isAllowed ? principal : undefined, context.signal);
    const headers = { 'set-cookie': `${cookieName}=; Max-Age=0; ${cookieRules}` };
    return { status: 200, page: decidedPage(isAllowed), headers, why: isAllowed ? 'DeviceAllowed' : 'DeviceRefused' };
  }

  private async open({ cookies, signal }: RequestContext): Promise<{ principal: Principal; request: DeviceRequest }> {
    const { sealer, clock, devices } = this.parts;
    const sealed = (await sealer()).open('device-consent', cookies.get(cookieName) ?? '');
    const { success, data } = consentSchema.safeParse(sealed);
    if (!success || data.endsMs <= clock.now()) throw foreign();
    return { principal: data.principal, request: await devices.open(data.device, signal) };
  }

  /** What the person may do, as far as the program asked for it. */
  private rights({ virtualOrganizations }: DeviceRequest, principal: Principal): Right[] {
    const { members, clock } = this.parts;
    const own = members.of(principal).map((member): Right => {
      const { allowed, message } = members.decide(member, { name: 'session.read', nowMs: clock.now() });
      return {
        virtualOrganization: member.vo.metadata.name,
        roles: member.membership.spec.roles,
        problem: allowed ? undefined : message,
        userName: member.membership.status?.userName,
      };
    });
    if (virtualOrganizations === undefined) return own;
    return virtualOrganizations.map(
      (name) =>
        own.find(({ virtualOrganization }) => virtualOrganization === name) ?? {
          ...{ virtualOrganization: name, roles: [], userName: undefined },
          problem: 'you are no member; it may ask to join in your name',
        },
    );
  }

  private viewing({ address }: RequestContext): Viewing {
    return { site: this.parts.site, address, nowMs: this.parts.clock.now() };
  }
}

function cookie(value: string): string {
  return `${cookieName}=${value}; Max-Age=${consentMs / 1000}; ${cookieRules}`;
}

function read<T>(schema: z.ZodType<T>, form: unknown): T {
  const { success, data } = schema.safeParse(form);
  if (!success)
    throw new Refusal('InvalidRequest', 'The form is not complete: open the page again and use its buttons.');
  return data;
}

function foreign(): Refusal {
  return new Refusal(
    'LoginExpired',
    'No login is under way in this browser, or it took too long: type the code again.',
    {
      reason: 'NoLoginInBrowser',
    },
  );
}
