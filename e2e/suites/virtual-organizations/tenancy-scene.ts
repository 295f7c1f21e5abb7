import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect } from '@jest/globals';
import YAML from 'yaml';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { VOMembership } from '#crds/vo-membership.ts';
import { loginOf, openSites, type TestSite, type TestSites, waitFor } from '#sites/harness.ts';
import type { CommandResult } from '#sites/shell.ts';
import { waitPods, withNamespace } from '#sites/testing.ts';
import { Product } from '../product.ts';

/** Namespace of the operator. */
export const system = 'suite-vo-system';
/** A namespace of nobody's organization. */
export const outside = 'suite-vo-outside';

/** The product on a real site: the owner of the site, an administrator, two members, all by plain kubectl. */
export class TenancyScene {
  site!: TestSite;
  private shared!: TestSites;
  private product!: Product;
  private readonly scratch = mkdtempSync(path.join(tmpdir(), 'xtreemos-vo-'));
  private readonly cleanups: (() => Promise<void>)[] = [];

  async start(): Promise<void> {
    this.shared = await openSites();
    this.product = await Product.install(system, ['site.reservedRanges={10.176.0.0/12}']);
    ({ site: this.site } = this.product);
    this.cleanups.push(await withNamespace(this.site, outside));
    await this.site.kubectl(['wait', '--for=condition=Ready', 'site/home', '--timeout=60s']);
  }

  async stop(): Promise<void> {
    for (const name of ['physics', 'chemistry']) {
      await this.site.tryKubectl(['delete', 'vo', name, '--timeout=60s']);
    }
    await this.site.tryKubectl(['delete', 'clusterrolebinding', 'vo-founders', '--ignore-not-found']);
    await this.site.tryKubectl(['delete', 'clusterrole', 'vo-founder', '--ignore-not-found']);
    await this.product.uninstall();
    for (const cleanup of this.cleanups) await cleanup();
    rmSync(this.scratch, { recursive: true, force: true });
  }

  /** kubectl as one of the users of the site who may do nothing by themselves. */
  async as(user: string, args: readonly string[], input?: string): Promise<CommandResult> {
    return this.site.tryKubectl(
      [...loginOf(this.shared, this.site, user), ...args],
      input === undefined ? {} : { input },
    );
  }

  /** kubectl as a member of a virtual organization: with a token of their this.account, as a login gives it. */
  async asMember(vo: string, userName: string, args: readonly string[], input?: string): Promise<CommandResult> {
    const config = YAML.parse(await this.site.kubectl(['config', 'view', '--raw', '--flatten'])) as {
      users: { user: object }[];
    };
    const token = (await this.site.kubectl(['create', 'token', userName, '-n', `vo-${vo}`])).trim();
    for (const user of config.users) user.user = { token };
    const file = path.join(this.scratch, userName);
    writeFileSync(file, YAML.stringify(config), { mode: 0o600 });
    return this.site.tryKubectl(
      ['--kubeconfig', file, '-n', `vo-${vo}`, ...args],
      input === undefined ? {} : { input },
    );
  }

  /** Alice forms a virtual organization. */
  async form(name: string, spec: object = {}): Promise<void> {
    const administrators = [{ issuer: 'kubernetes:home', subject: 'alice' }];
    const object = { kind: 'VirtualOrganization', metadata: { name }, spec: { administrators, ...spec } };
    const { status, stderr } = await this.as('alice', ['create', '-f', '-'], manifest(object));
    expect([stderr, status]).toEqual(['', 0]);
  }

  async accept(...accepted: object[]): Promise<void> {
    const patch = JSON.stringify({ spec: { local: { acceptedVirtualOrganizations: accepted } } });
    await this.site.kubectl(['patch', 'site', 'home', '--type=merge', '-p', patch]);
  }

  async reason(name: string, type: string, wanted: string, limitMs = 60_000): Promise<VirtualOrganization> {
    return waitFor(
      `${type} of ${name} is ${wanted}`,
      async () => {
        const vo = await this.site.get<VirtualOrganization>('vo', name);
        const found = vo.status?.conditions?.find((each) => each.type === type);
        return found?.reason === wanted && found.observedGeneration === vo.metadata.generation ? vo : undefined;
      },
      { limitMs, pauseMs: 300 },
    );
  }

  /** Alice makes someone a member. @returns their user name, once their account is there. */
  async join(vo: string, name: string): Promise<string> {
    const spec = { principal: { issuer: 'kubernetes:home', subject: name }, state: 'Active' };
    const metadata = { name, namespace: `vo-${vo}` };
    const made = await this.as('alice', ['create', '-f', '-'], manifest({ kind: 'VOMembership', metadata, spec }));
    expect([made.stderr, made.status]).toEqual(['', 0]);
    return this.account(vo, name);
  }

  /** Asks for the account of a member, as a login does, and waits for it. */
  async account(vo: string, name: string): Promise<string> {
    const until = `${new Date(Date.now() + 3_600_000).toISOString().slice(0, 19)}Z`;
    await this.site.kubectl([
      'annotate',
      '--overwrite',
      'vom',
      name,
      '-n',
      `vo-${vo}`,
      `xtreemos.io/account-until=${until}`,
    ]);
    return waitFor(`the account of ${name}`, async () => {
      const { status } = await this.site.get<VOMembership>('vom', name, '-n', `vo-${vo}`);
      const userName = status?.userName;
      if (userName === undefined) return undefined;
      return (await this.site.tryKubectl(['get', 'serviceaccount', userName, '-n', `vo-${vo}`])).status === 0
        ? userName
        : undefined;
    });
  }

  async runAs(vo: string, userName: string, pod: string, node?: string): Promise<void> {
    const made = await this.asMember(vo, userName, ['create', '-f', '-'], podOf(pod, userName, node));
    expect([made.stderr, made.status]).toEqual(['', 0]);
    await waitPods(this.site, `vo-${vo}`, pod);
  }
}

const manifest = (object: object): string => JSON.stringify({ apiVersion: 'xtreemos.io/v1alpha1', ...object });

const serve = 'mkdir -p /tmp/www; hostname > /tmp/www/index.html; exec busybox httpd -f -p 8080 -h /tmp/www';

/** A pod as a member writes it; `user` is their user name, which ends in their id. What is needed besides is filled in. */
export function podOf(name: string, user: string, node?: string): string {
  const securityContext = { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } };
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name },
    spec: {
      ...(node === undefined ? {} : { nodeSelector: { 'kubernetes.io/hostname': node } }),
      terminationGracePeriodSeconds: 3600,
      serviceAccountName: user,
      automountServiceAccountToken: false,
      securityContext: {
        runAsNonRoot: true,
        runAsUser: Number(user.slice(user.lastIndexOf('-') + 1)),
        seccompProfile: { type: 'RuntimeDefault' },
      },
      containers: [
        {
          name: 'main',
          image: 'xtreemos.io/busybox:1',
          imagePullPolicy: 'Never',
          command: ['/bin/sh', '-c', serve],
          securityContext,
        },
      ],
    },
  });
}

/** A pod of somebody who has nothing to do with virtual organizations. */
export function neighbour(node: string): object {
  const pod = JSON.parse(podOf('neighbour', 'somebody-1000', node)) as { metadata: object; spec: object };
  return {
    ...pod,
    metadata: { name: 'neighbour', namespace: outside },
    spec: { ...pod.spec, serviceAccountName: 'default', terminationGracePeriodSeconds: 0 },
  };
}
