/** Gateways on a real API server with a real cert-manager: everything but nodes and the image. */
import { randomUUID } from 'node:crypto';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { JsonAuditLog } from '#common/audit.ts';
import { systemClock } from '#common/clock.ts';
import { createLogger } from '#common/logger.ts';
import { createRegistry } from '#common/metrics.ts';
import { installCrds } from '#crds/testing/install.ts';
import { voMemberships } from '#crds/vo-membership.ts';
import { addVoAuthorityController } from '#operator/controllers/voauthority/setup.ts';
import { PeerStates } from '#operator/gateway/peers/peer-states.ts';
import { addGateway } from '#operator/gateway/setup.ts';
import type { GatewayListener } from '#operator/gateway/serving.ts';
import { MembershipIndex } from '#operator/identity/membership-index.ts';
import { FakeResourceSelection } from '#proto/selector/testing/fake.ts';
import { createManager, HttpTransport, kubeConfigCredentials } from '#runtime/index.ts';
import { type AloneControlPlane, startControlPlane } from '#sites/control-plane.ts';
import { KubeClient, type KubeObject, waitFor } from '#sites/kube-client.ts';
import { type RunningCertManager, startCertManager } from './cert-manager.ts';
import { GatewayClient } from './gateway-client.ts';

/** Namespace of the operator. */
export const systemNamespace = 'xtreemos-system';
/** Under which users know the gateway; each replica listens on a port of its own. */
export const gatewayAddress = '127.0.0.1:7443';
const api = '/apis/xtreemos.io/v1alpha1';
const merge = 'application/merge-patch+json';

/** The only node that selectors of the site know. */
const aNode = { name: 'node-1', attributes: { arch: 'amd64' }, allocatable: { cpu: 4000, memory: 8 * 1024 ** 3 } };

/** Everything that gateways of the site wrote: log and audit log. */
export interface Output {
  readonly lines: string[];
  audit(): Record<string, unknown>[];
}

/** One replica of the gateway, with the controller that signs. */
export class GatewayReplica {
  readonly registry = createRegistry();
  private readonly transport: HttpTransport;
  private readonly stopper = new AbortController();
  private readonly end: Promise<void>;
  private readonly listener: GatewayListener;

  constructor(kubeconfig: string, output: Output) {
    const credentials = kubeConfigCredentials({ file: kubeconfig });
    const destination = { write: (line: string) => void output.lines.push(line) };
    const log = createLogger({ level: 'debug', destination });
    this.transport = new HttpTransport({ credentials, logger: log });
    const manager = createManager({
      name: 'test',
      transport: this.transport,
      logger: log,
      registry: this.registry,
      lease: {
        namespace: systemNamespace,
        name: 'gateway-test',
        identity: randomUUID(),
        durationMs: 15_000,
        renewDeadlineMs: 10_000,
        retryMs: 1000,
      },
    });
    const audit = new JsonAuditLog(systemClock, destination);
    const common = { clock: systemClock, log, audit, localSite: 'rennes', namespace: systemNamespace };
    const signing = addVoAuthorityController(manager, common);
    ({ listener: this.listener } = addGateway(manager, {
      ...common,
      registry: this.registry,
      transport: this.transport,
      credentials,
      signing,
      index: new MembershipIndex(manager.informer(voMemberships)),
      requestAccount: async ({ metadata, status }) => {
        const account = {
          apiVersion: 'v1',
          kind: 'ServiceAccount',
          metadata: { name: status?.userName, namespace: metadata.namespace },
        };
        const at = `/api/v1/namespaces/${metadata.namespace ?? ''}/serviceaccounts/${status?.userName ?? ''}?fieldManager=test&force=true`;
        await this.transport.request({
          method: 'PATCH', path: at, body: JSON.stringify(account), contentType: 'application/apply-patch+yaml',
          priority: 'write', isIdempotent: true, verb: 'apply', resource: 'serviceaccounts',
        }); // prettier-ignore
      },
      selection: new FakeResourceSelection(systemClock, [aNode]),
      port: 0,
      address: gatewayAddress,
      service: 'xtreemos-gateway',
      servicePort: 7443,
      apiServer: '',
      version: '0.0.0',
      trustDomain: '',
      peerStates: new PeerStates(),
    }));
    this.end = manager.run(this.stopper.signal);
    this.end.catch(() => undefined);
  }

  /** Port that this replica listens on, once it does. */
  async port(): Promise<number> {
    return waitFor('the gateway listens', () => this.listener.port, { limitMs: 30_000 });
  }

  /** A client of this replica, once it listens. */
  async client(caBundle: string): Promise<GatewayClient> {
    return new GatewayClient(await this.port(), caBundle);
  }

  async stop(): Promise<void> {
    this.stopper.abort(new Error('stop'));
    await this.end.catch(() => undefined);
    await this.transport.close();
  }
}

/** A site with one local Site object, and gateways. */
export class GatewaySite {
  readonly plane: AloneControlPlane;
  readonly client: KubeClient;
  readonly output: Output;
  private readonly certManager: RunningCertManager;
  private readonly replicas: GatewayReplica[] = [];

  private constructor(plane: AloneControlPlane, client: KubeClient, certManager: RunningCertManager) {
    this.plane = plane;
    this.client = client;
    this.certManager = certManager;
    const lines: string[] = [];
    const isAudit = (line: string): boolean => line.includes('"audit":true');
    this.output = {
      lines,
      audit: () => lines.filter(isAudit).map((line) => JSON.parse(line) as Record<string, unknown>),
    };
  }

  static async start(local: object): Promise<GatewaySite> {
    const plane = await startControlPlane({
      dir: mkdtempSync(path.join(tmpdir(), 'xtreemos-gateway-')),
      name: 'gateway',
      users: [{ name: 'ada' }, { name: 'eve' }],
    });
    const client = new KubeClient(plane.credentials);
    await installCrds(client);
    await client.apply(`/api/v1/namespaces/${systemNamespace}`, {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: systemNamespace },
    });
    const site = {
      apiVersion: 'xtreemos.io/v1alpha1',
      kind: 'Site',
      metadata: { name: 'rennes' },
      spec: { type: 'Local', local },
    };
    await client.json('POST', `${api}/sites`, { body: site });
    return new GatewaySite(plane, client, await startCertManager(client, plane.kubeconfigPath));
  }

  replica(): GatewayReplica {
    const made = new GatewayReplica(this.plane.kubeconfigPath, this.output);
    this.replicas.push(made);
    return made;
  }

  /** The authority of the gateway, as kube-public tells it. */
  async caBundle(): Promise<string> {
    return waitFor('the gateway is published', async () => {
      const found = (await this.client.find('/api/v1/namespaces/kube-public/configmaps/xtreemos-gateway')) as { data?: Record<string, string> } | undefined;
      return found?.data?.caBundle;
    }, { limitMs: 40_000 }); // prettier-ignore
  }

  /** What a login of the plane is, PEM. */
  async patchSite(local: object): Promise<void> {
    await this.client.json('PATCH', `${api}/sites/rennes`, { body: { spec: { local } }, contentType: merge });
  }

  /** Forms an organization with namespace and slice, Operational, as its own controllers would. */
  async form(name: string, slice: number, spec: object = {}): Promise<void> {
    const administrators = [{ issuer: 'kubernetes:rennes', subject: 'ada' }];
    const body = {
      apiVersion: 'xtreemos.io/v1alpha1',
      kind: 'VirtualOrganization',
      metadata: { name },
      spec: { administrators, state: 'Operational', ...spec },
    };
    const vo = await this.client.json('POST', `${api}/virtualorganizations`, { body });
    const labels = {
      'xtreemos.io/virtual-organization': name,
      'xtreemos.io/virtual-organization-uid': vo.metadata?.uid ?? '',
    };
    await this.client.json('POST', '/api/v1/namespaces', {
      body: { apiVersion: 'v1', kind: 'Namespace', metadata: { name: `vo-${name}`, labels } },
    });
    await this.client.json('PATCH', `${api}/virtualorganizations/${name}/status`, {
      body: { status: { slices: [slice] } },
      contentType: merge,
    });
    await waitFor(`${name} is signed for`, async () => {
      const found = await this.client.json('GET', `${api}/virtualorganizations/${name}`);
      return (found.status as { epoch?: number } | undefined)?.epoch;
    }, { limitMs: 40_000 }); // prettier-ignore
  }

  /** Makes somebody a member with an id, as the controller of memberships would. */
  async join(
    organization: string,
    name: string,
    principal: { issuer: string; subject: string },
    slice: number,
    local: number,
    spec: object = {},
  ): Promise<string> {
    const body = {
      apiVersion: 'xtreemos.io/v1alpha1',
      kind: 'VOMembership',
      metadata: { name },
      spec: { principal, state: 'Active', ...spec },
    };
    await this.client.json('POST', `${api}/namespaces/vo-${organization}/vomemberships`, { body });
    return this.activate(organization, name, slice, local);
  }

  /** Gives a membership its id. */
  async activate(organization: string, name: string, slice: number, local: number): Promise<string> {
    const base = 2_013_265_920 + slice * 65_536;
    const userName = `u-m${local}-${base + local}`;
    const status = { state: 'Active', uid: base + local, gid: base, userName, gids: [] };
    await this.client.json('PATCH', `${this.membership(organization, name)}/status`, {
      body: { status },
      contentType: merge,
    });
    return userName;
  }

  async patchMember(organization: string, name: string, spec: object): Promise<void> {
    await this.client.json('PATCH', this.membership(organization, name), { body: { spec }, contentType: merge });
  }

  membership(organization: string, name: string): string {
    return `${api}/namespaces/vo-${organization}/vomemberships/${name}`;
  }

  /** Secrets of sessions. */
  async sessions(): Promise<KubeObject[]> {
    const { items } = await this.client.list(`/api/v1/namespaces/${systemNamespace}/secrets`);
    return items.filter(({ metadata }) => metadata?.name?.startsWith('session-'));
  }

  async stop(): Promise<void> {
    for (const each of this.replicas) await each.stop();
    await this.certManager.stop();
    this.client.close();
    await this.plane.stop();
  }
}
