/** A real API server with the chart's rights, and operators that can be killed at any request. For tests. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { AuditRecord } from '#common/audit.ts';
import { systemClock } from '#common/clock.ts';
import { createLogger } from '#common/logger.ts';
import { createRegistry } from '#common/metrics.ts';
import { nodes } from '#runtime/builtin.ts';
import { kubeConfigCredentials } from '#runtime/credentials.ts';
import { createManager } from '#runtime/manager.ts';
import { HttpTransport, type StreamRequest, type Transport, type TransportRequest } from '#runtime/transport.ts';
import { MemoryAuthority } from '#operator/identity/testing/memory-authority.ts';
import type { VoAuthority } from '#operator/identity/vo-authority.ts';
import { type AloneControlPlane, startControlPlane } from '#sites/control-plane.ts';
import { KubeClient } from '#sites/kube-client.ts';
import { voMemberships } from '#crds/vo-membership.ts';
import { MembershipIndex } from '#operator/identity/membership-index.ts';
import { installChart, operatorNamespace } from '#operator/testing/installed.ts';
import { Decisions } from '../../decisions.ts';
import { addVirtualOrganizationController } from '../setup.ts';

/** Decides at each write whether the process dies there: before it is sent, or after it was carried out. */
export type Killer = (write: string) => 'before' | 'after' | undefined;

/** One running operator. */
export interface RunningOperator {
  /** Every request that changes something, but events. */
  readonly writes: readonly string[];
  /** How many requests there were that are no watches. */
  readonly requests: () => number;
  readonly log: () => string;
  /** What it wrote into the audit log. */
  readonly records: readonly AuditRecord[];
  /** Resolves when a killer killed it. */
  readonly killed: Promise<undefined>;
  stop(): Promise<void>;
}

/** The ground that the tests stand on. */
export class Bench {
  readonly client: KubeClient;
  readonly authority = new MemoryAuthority();
  private readonly plane: AloneControlPlane;
  private readonly scratch: string;
  private readonly kubeconfig: string;

  private constructor(plane: AloneControlPlane, client: KubeClient, scratch: string, kubeconfig: string) {
    this.plane = plane;
    this.client = client;
    this.scratch = scratch;
    this.kubeconfig = kubeconfig;
  }

  /** Starts an API server with its controllers and installs the chart. */
  static async open(name: string): Promise<Bench> {
    const scratch = mkdtempSync(path.join(tmpdir(), `xtreemos-${name}-`));
    const plane = await startControlPlane({ dir: path.join(scratch, 'plane'), name, withControllers: true });
    const client = new KubeClient(plane.credentials);
    const kubeconfig = await installChart(plane, client, scratch, 'site.name=home');
    // Who may make which pod is tried where the policies are; here the administrator of the site makes some.
    await client.json('DELETE', '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings');
    return new Bench(plane, client, scratch, kubeconfig);
  }

  /** Starts an operator with the account that the chart made. */
  start(killer: Killer = () => undefined): RunningOperator {
    const stop = new AbortController();
    const lines: string[] = [];
    const records: AuditRecord[] = [];
    const logger = createLogger({ level: 'info', destination: { write: (line) => void lines.push(line) } });
    const inner = new HttpTransport({ credentials: kubeConfigCredentials({ file: this.kubeconfig }), logger });
    const mortal = new MortalTransport(inner, killer);
    const manager = createManager({ name: 'xtreemos-operator', transport: mortal, logger, graceMs: 1000 });
    addVirtualOrganizationController(manager, {
      clock: systemClock,
      log: logger,
      registry: createRegistry(),
      members: new MembershipIndex(manager.informer(voMemberships)),
      authority: mortalAuthority(this.authority, mortal),
      localSite: 'home',
      decisions: new Decisions({ record: (record) => void records.push(record) }, operatorNamespace),
      reservedRanges: [],
      gateway: { namespace: operatorNamespace, port: 7443 },
    });
    manager.informer(nodes);
    const ended = manager.run(stop.signal).catch((error: unknown) => {
      if (!mortal.isDead) throw error;
    });
    return {
      writes: mortal.writes,
      requests: () => mortal.count,
      log: () => lines.join(''),
      records,
      killed: mortal.killed,
      stop: async () => {
        stop.abort(new Error('the test stops it'));
        await ended;
        await inner.close();
      },
    };
  }

  async close(): Promise<void> {
    this.client.close();
    await this.plane.stop();
    rmSync(this.scratch, { recursive: true, force: true });
  }
}

/** Passes requests on until it dies; from then on nothing leaves it. */
class MortalTransport implements Transport {
  readonly writes: string[] = [];
  readonly killed: Promise<undefined>;
  count = 0;
  isDead = false;
  private readonly inner: Transport;
  private readonly killer: Killer;
  private readonly die: () => void;

  constructor(inner: Transport, killer: Killer) {
    this.inner = inner;
    this.killer = killer;
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.killed = promise;
    this.die = () => {
      this.isDead = true;
      resolve(undefined);
    };
  }

  async request(request: TransportRequest): Promise<unknown> {
    this.assertAlive();
    this.count++;
    if (request.method === 'GET' || request.path.includes('/events')) return this.inner.request(request);
    return this.act(`${request.method} ${request.path} ${request.body ?? ''}`, async () => this.inner.request(request));
  }

  /** Carries out something that changes the world, and dies before or after it when the killer says so. */
  async act<T>(what: string, work: () => Promise<T>): Promise<T> {
    this.assertAlive();
    const death = this.killer(what);
    if (death === 'before') this.die();
    this.assertAlive();
    const result = await work();
    this.writes.push(what);
    if (death === 'after') this.die();
    this.assertAlive();
    return result;
  }

  async stream(request: StreamRequest, onLine: (line: string) => void): Promise<void> {
    this.assertAlive();
    return this.inner.stream(request, onLine);
  }

  async bytes(request: TransportRequest, onChunk: (chunk: Buffer) => void): Promise<void> {
    this.assertAlive();
    return this.inner.bytes(request, onChunk);
  }

  async close(): Promise<void> {
    return this.inner.close();
  }

  private assertAlive(): void {
    if (this.isDead) throw new Error('This operator was killed');
  }
}

/** The keys live outside the operator and outlast it; what it asks of them may be its last act too. */
function mortalAuthority(inner: VoAuthority, transport: MortalTransport): VoAuthority {
  return {
    revoke: async (vo, signal) => transport.act('revoke', async () => inner.revoke(vo, signal)),
    signReceipt: async (vo, claims, signal) => transport.act('sign', async () => inner.signReceipt(vo, claims, signal)),
    forget: async (vo, signal) => transport.act('forget', async () => inner.forget(vo, signal)),
  };
}
