import { Counter, Gauge, type Registry } from '#common/metrics.ts';
import type { MemberCounter } from '#operator/identity/membership-index.ts';

/** Metrics of memberships. */
export class MembershipMetrics {
  /** Ids given out by this process. */
  readonly issued: Counter;
  /** Times that pods of somebody who may not act any more were told to end. */
  readonly podsEnded: Counter;

  /** @param accounts - how many accounts of members there are now. */
  constructor(registry: Registry, counter: MemberCounter, accounts: () => number) {
    const registers = [registry];
    this.issued = new Counter({
      name: 'xtreemos_membership_ids_issued_total',
      help: 'User ids given out by this process',
      registers,
    });
    this.podsEnded = new Counter({
      name: 'xtreemos_membership_pods_ended_total',
      help: 'Times that the pods of a member who may not act any more were told to end',
      registers,
    });
    new Gauge({
      name: 'xtreemos_memberships',
      help: 'Memberships by the state in force',
      labelNames: ['state'],
      registers,
      collect() {
        for (const [state, count] of Object.entries(counter.total())) this.set({ state }, count);
      },
    });
    new Gauge({
      name: 'xtreemos_member_accounts',
      help: 'Accounts of members on this site',
      registers,
      collect() {
        this.set(accounts());
      },
    });
  }
}
