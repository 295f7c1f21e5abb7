import { randomUUID } from 'node:crypto';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { AuditRecord } from '#common/audit.ts';
import { systemClock } from '#common/clock.ts';
import { verifyGenesis, verifyState, type VoState } from '#common/identity/vo-state.ts';
import { silentLogger } from '#common/logger.ts';
import { installCrds } from '#crds/testing/install.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import { addVoAuthorityController, type VoSigning } from '#operator/controllers/voauthority/setup.ts';
import { createManager, HttpTransport, kubeConfigCredentials, type Manager } from '#runtime/index.ts';
import type { Stored } from '#runtime/types.ts';
import { type AloneControlPlane, startControlPlane } from '#sites/control-plane.ts';
import { KubeClient, waitFor } from '#sites/kube-client.ts';
import { type RunningCertManager, startCertManager } from '../../testing/cert-manager.ts';
import { TokenMinter } from '../minter.ts';

/** Namespace of the operator. */
export const namespace = 'xtreemos-system';
/** Path of virtual organizations. */
export const organizations = '/apis/xtreemos.io/v1alpha1/virtualorganizations';
/** Who administers those that are founded. */
export const administrators = [{ issuer: 'kubernetes:rennes', subject: 'ada' }];

/** The controller in a process of its own, as far as it can tell. */
class Operator {
  readonly signing: VoSigning;
  readonly minter: TokenMinter;
  private readonly manager: Manager;
  private readonly transport: HttpTransport;
  private readonly stopper = new AbortController();
  private readonly end: Promise<void>;

  constructor(kubeconfig: string, audit: AuditRecord[]) {
    this.transport = new HttpTransport({ credentials: kubeConfigCredentials({ file: kubeconfig }) });
    this.manager = createManager({ name: 'test', transport: this.transport });
    this.signing = addVoAuthorityController(this.manager, {
      clock: systemClock,
      log: silentLogger,
      audit: { record: (record) => audit.push(record) },
      localSite: 'rennes',
      namespace,
    });
    this.minter = new TokenMinter(this.signing.keys, this.signing.records, systemClock);
    this.end = this.manager.run(this.stopper.signal);
    this.end.catch(() => undefined);
  }

  async stop(): Promise<void> {
    this.stopper.abort(new Error('stop'));
    await this.end.catch(() => undefined);
    await this.transport.close();
  }
}

/** An API server with cert-manager, on which organizations are founded and operators sign for them. */
export class AuthorityScene {
  client!: KubeClient;
  /** What operators decided and refused. */
  readonly audit: AuditRecord[] = [];
  private plane!: AloneControlPlane;
  private certManager!: RunningCertManager;
  private readonly running: Operator[] = [];

  async start(): Promise<void> {
    const dir = mkdtempSync(path.join(tmpdir(), 'xtreemos-authority-'));
    this.plane = await startControlPlane({ dir, name: 'authority' });
    this.client = new KubeClient(this.plane.credentials);
    await installCrds(this.client);
    await this.client.apply(`/api/v1/namespaces/${namespace}`, {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: namespace },
    });
    this.certManager = await startCertManager(this.client, this.plane.kubeconfigPath);
  }

  async stop(): Promise<void> {
    await this.certManager.stop();
    this.client.close();
    await this.plane.stop();
  }

  /** One more operator, until the test ends. */
  operator(): Operator {
    const made = new Operator(this.plane.kubeconfigPath, this.audit);
    this.running.push(made);
    return made;
  }

  async stopOperators(): Promise<void> {
    for (const each of this.running.splice(0)) await each.stop();
    this.audit.length = 0;
  }

  /** An organization with its namespace and the slice that the identity controller would give it. */
  readonly found = async (slice: number): Promise<string> => {
    const name = `vo-${randomUUID().slice(0, 8)}`;
    const body = {
      apiVersion: 'xtreemos.io/v1alpha1',
      kind: 'VirtualOrganization',
      metadata: { name },
      spec: { administrators },
    };
    const vo = await this.client.json('POST', organizations, { body });
    const labels = {
      'xtreemos.io/virtual-organization': name,
      'xtreemos.io/virtual-organization-uid': vo.metadata?.uid ?? '',
    };
    await this.client.json('POST', '/api/v1/namespaces', {
      body: { apiVersion: 'v1', kind: 'Namespace', metadata: { name: `vo-${name}`, labels } },
    });
    await this.patchStatus(name, { slices: [slice] });
    return name;
  };

  readonly patchStatus = async (name: string, status: object): Promise<void> => {
    const path = `${organizations}/${name}/status`;
    await this.client.json('PATCH', path, { body: { status }, contentType: 'application/merge-patch+json' });
  };

  readonly patch = async (name: string, spec: object): Promise<void> => {
    const path = `${organizations}/${name}`;
    await this.client.json('PATCH', path, { body: { spec }, contentType: 'application/merge-patch+json' });
  };

  readonly get = async (name: string): Promise<Stored<VirtualOrganization>> =>
    (await this.client.json('GET', `${organizations}/${name}`)) as unknown as Stored<VirtualOrganization>;

  /** What members and peers see, checked as they would. */
  readonly read = async (name: string): Promise<{ state: VoState; jws: string; genesis: string }> => {
    const { genesis = '', state = '' } =
      ((await this.client.json('GET', publishedPath(name))) as { data?: Record<string, string> }).data ?? {};
    const vo = await this.get(name);
    const founding = await verifyGenesis(genesis, vo.status?.genesis);
    const verified = await verifyState(state, founding);
    return { state: verified.content, jws: state, genesis };
  };

  readonly settled = async (name: string, check: (state: VoState) => boolean): Promise<Stored<VirtualOrganization>> => {
    return waitFor(`the state of ${name} is as it should be`, async () => {
      const vo = await this.get(name);
      if (vo.status?.genesis === undefined) return undefined;
      const { state, jws } = await this.read(name);
      const known = await verifyState(jws, await verifyGenesis((await this.read(name)).genesis));
      const isTold = vo.status.epoch === state.epoch && vo.status.stateDigest === known.digest;
      return isTold && check(state) ? vo : undefined;
    }, { limitMs: 30_000 }); // prettier-ignore
  };
}

/** Where members read the state of an organization. */
export const publishedPath = (name: string): string => `/api/v1/namespaces/vo-${name}/configmaps/vo-state`;
/** Where the operator keeps it. */
export const recordPath = (uid: string): string => `/api/v1/namespaces/${namespace}/configmaps/vo-${uid}-state`;
