import { Counter, Gauge, type Registry } from '#common/metrics.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';

/** Metrics of virtual organizations on this site. */
export class VirtualOrganizationMetrics {
  private readonly organizations: Gauge<'state'>;
  private readonly ready: Gauge;
  private readonly dissolutions: Counter;

  constructor(registry: Registry) {
    this.organizations = new Gauge({
      name: 'xtreemos_virtual_organizations',
      help: 'Virtual organizations by the state that is in force here',
      labelNames: ['state'],
      registers: [registry],
    });
    this.ready = new Gauge({
      name: 'xtreemos_virtual_organizations_ready',
      help: 'Virtual organizations whose members can work here',
      registers: [registry],
    });
    this.dissolutions = new Counter({
      name: 'xtreemos_virtual_organization_dissolutions_total',
      help: 'Dissolutions that this process brought to their end',
      registers: [registry],
    });
  }

  /** Takes what is known of all of them. */
  observe(organizations: readonly VirtualOrganization[]): void {
    const counts = new Map<string, number>(
      ['Forming', 'Operational', 'Frozen', 'Dissolved'].map((state) => [state, 0]),
    );
    let ready = 0;
    for (const { status } of organizations) {
      if (status?.state !== undefined) counts.set(status.state, (counts.get(status.state) ?? 0) + 1);
      if (status?.conditions?.some(({ type, status: value }) => type === 'Ready' && value === 'True') === true) ready++;
    }
    for (const [state, count] of counts) this.organizations.set({ state }, count);
    this.ready.set(ready);
  }

  /** A dissolution came to its end. */
  countDissolution(): void {
    this.dissolutions.inc();
  }
}
