/** The part of `make demo` that forms a virtual organization with a member, who runs a pod under their own user id. */
import type { Site } from '#crds/site.ts';
import { type TestSite, waitFor } from '#sites/harness.ts';
import { MemberShell } from './member.ts';

const organization = 'physics';
const member = 'bob';
const namespace = `vo-${organization}`;
const apiVersion = 'xtreemos.io/v1alpha1';

/** What the demo shows it on. */
export interface OrganizationDemo {
  readonly site: TestSite;
  /** Name of the Site object. */
  readonly siteName: string;
  /** The other sites that it shall use, which are peers already. */
  readonly peers: readonly NamedSite[];
  /** kubeconfig that holds the users of the site. */
  readonly kubeconfig: string;
  readonly report: (line: string) => void;
}

/** A site, and the name of its Site object. */
export interface NamedSite {
  readonly site: TestSite;
  readonly siteName: string;
}

/**
 * Forms the organization, lets the site accept it, and logs a member in. What is there is kept, so it can be repeated after a crash.
 */
export async function formOrganization(demo: OrganizationDemo): Promise<MemberShell> {
  const { site, siteName, report } = demo;
  const issuer = `kubernetes:${siteName}`;
  report(`Forming the virtual organization ${organization}, with ${member} as a member`);
  await clearDissolved(site);
  await site.apply([
    {
      apiVersion,
      kind: 'VirtualOrganization',
      metadata: { name: organization },
      spec: {
        state: 'Operational',
        administrators: [{ issuer, subject: 'alice' }],
        homeSite: siteName,
        sites: demo.peers.map((peer) => peer.siteName),
        homeVolumes: { size: '1Gi', reclaimPolicy: 'Delete' },
      },
    },
  ]);
  await accept(site, siteName, { name: organization });
  await site.kubectl(['wait', '--for=condition=Ready', `vo/${organization}`, '--timeout=60s']);
  await site.apply([
    {
      apiVersion,
      kind: 'VOMembership',
      metadata: { name: member, namespace },
      spec: { principal: { issuer, subject: member }, state: 'Active' },
    },
  ]);
  await site.kubectl(['wait', '--for=condition=Ready', `vom/${member}`, '-n', namespace, '--timeout=60s']);
  for (const peer of demo.peers) await share(demo, peer);
  report(`Logging in as ${member}`);
  return MemberShell.logIn(demo.kubeconfig, `${member}@${site.name}`, `xos-${siteName}-${organization}`);
}

/** What was dissolved stays as a tombstone, which keeps the name until the owner of the site deletes it. */
async function clearDissolved(site: TestSite): Promise<void> {
  const state = ['-o', 'jsonpath={.status.state}'];
  const found = await site.kubectl(['get', 'vo', organization, '--ignore-not-found', ...state]);
  if (found === 'Dissolved') await site.kubectl(['delete', 'vo', organization, '--timeout=60s']);
}

/** The owners of both sites share the organization; the other site takes it and its member over from its home. */
async function share({ site, siteName, report }: OrganizationDemo, peer: NamedSite): Promise<void> {
  report(`Sharing ${organization} with site ${peer.siteName}, which accepts it from its home ${siteName}`);
  const shared = JSON.stringify({ spec: { peer: { virtualOrganizations: [organization] } } });
  await site.kubectl(['patch', 'site', peer.siteName, '--type=merge', '-p', shared]);
  await peer.site.kubectl(['patch', 'site', siteName, '--type=merge', '-p', shared]);
  await accept(peer.site, peer.siteName, { name: organization, home: siteName });
  await waitFor(
    `${member} is known at ${peer.siteName}`,
    async () => {
      const words = ['wait', '--for=condition=Ready', `vom/${member}`, '-n', namespace, '--timeout=10s'];
      return (await peer.site.tryKubectl(words)).status === 0 || undefined;
    },
    { limitMs: 120_000 },
  );
}

async function accept(site: TestSite, siteName: string, entry: { name: string; home?: string }): Promise<void> {
  const { spec } = await site.get<Site>('site', siteName);
  const local = spec.type === 'Local' ? spec.local : undefined;
  const accepted = local?.acceptedVirtualOrganizations ?? [];
  if (accepted.some(({ name }) => name === organization)) return;
  const body = { spec: { local: { acceptedVirtualOrganizations: [...accepted, entry] } } };
  await site.kubectl(['patch', 'site', siteName, '--type=merge', '-p', JSON.stringify(body)]);
}

/** A plain pod of the member. @returns what they see. */
export function showPod(shell: MemberShell): string {
  shell.kubectl('delete', 'pod', 'hello', '--ignore-not-found');
  const command = ['run', 'hello', '--image=xtreemos.io/busybox:1', '--restart=Never', '--command', '--', 'id'];
  shell.kubectl(...command);
  shell.kubectl('wait', '--for=jsonpath={.status.phase}=Succeeded', 'pod/hello', '--timeout=60s');
  const seen = shell.kubectl('logs', 'hello');
  return `$ kubectl ${shell.context.join(' ')} ${command.join(' ')}; kubectl logs hello\n${seen}`;
}
