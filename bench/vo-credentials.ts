/** What credentials of virtual organizations cost: minting and verifying in CPU time of one core, deciding by the clock. */
import { verifyAccessToken } from '#common/identity/access-token.ts';
import { decide, type MemberView, type OrganizationView, type SiteView } from '#common/identity/decide.ts';
import { startMs, TestOrganization } from '#common/identity/testing/organization.ts';

/** Figures of credentials. */
export interface CredentialFigures {
  readonly tokens_per_s_core: number;
  readonly verify_ms: number;
  readonly policy_p99_ms: number;
}

const tokenCount = 5000;
const decisionCount = 20_000;

/** CPU time of this process since `start`, with all of its threads, milliseconds. */
function cpuMs(start: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(start);
  return (user + system) / 1000;
}

/** Measures all three; takes a few seconds. */
export async function measureCredentials(): Promise<CredentialFigures> {
  const vo = await TestOrganization.found();
  const state = await vo.state();
  const mint = async (): Promise<string> => vo.token(state);
  const verify = async (token: string): Promise<unknown> =>
    verifyAccessToken(token, { state, audience: 'storage.rennes', nowMs: startMs });
  for (let i = 0; i < 200; i++) await verify(await mint());
  let start = process.cpuUsage();
  const tokens: string[] = [];
  for (let i = 0; i < tokenCount; i++) tokens.push(await mint());
  const mintMs = cpuMs(start) / tokenCount;
  start = process.cpuUsage();
  for (const token of tokens) await verify(token);
  const verifyMs = cpuMs(start) / tokenCount;
  return {
    tokens_per_s_core: Math.round(1000 / mintMs),
    verify_ms: Number(verifyMs.toFixed(3)),
    policy_p99_ms: Number(policyP99Ms().toFixed(4)),
  };
}

/** A site with as many organizations, and an organization with as many roles, as there may be. By the clock: it is too short for CPU times. */
function policyP99Ms(): number {
  const site: SiteView = { name: 'rennes', accepted: Array.from({ length: 256 }, (_, index) => `vo-${index}`) };
  const roles = Array.from({ length: 32 }, (_, index) => ({
    name: `role-${index}`,
    capabilities: Array.from({ length: 32 }, (__, each) => `area${index}.verb${each}`),
  }));
  const vo: OrganizationView = { name: 'vo-255', state: 'Operational', roles };
  const member: MemberView = { state: 'Active', hasId: true, roles: roles.map(({ name }) => name), capabilities: [] };
  const action = { name: 'jobs.manage', capability: 'area31.verb31', nowMs: startMs };
  const times = Array.from({ length: decisionCount }, () => {
    const startedAt = performance.now();
    decide(site, vo, member, action);
    return performance.now() - startedAt;
  });
  return times.sort((a, b) => a - b)[Math.floor(decisionCount * 0.99)] ?? 0;
}
