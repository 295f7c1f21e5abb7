/** The record at home of what nodes of other sites have promised to a Reservation. */
import { claims, type ClaimObject } from '#crds/claim.ts';
import { organizationNamespace } from '#crds/organization.ts';
import { times } from '#operator/scheduling/shape.ts';
import { quantitiesOf } from '#proto/selector/resources.ts';
import type { Client } from '#runtime/contracts.ts';
import type { HeldSlots, Wanted } from './holding.ts';

/** Writes a Claim for each promise of a node of another site. It belongs to the Reservation: with it goes the promise. */
export async function recordElsewhere(
  client: Client,
  siteName: string,
  slots: readonly HeldSlots[],
  { shape, window, holder, isDraining, owner }: Wanted,
): Promise<void> {
  const elsewhere = slots.filter(({ site }) => site !== siteName);
  await Promise.all(
    elsewhere.map(async ({ claim: name, site, node: nodeName, count }) => {
      const resources = quantitiesOf(times(shape.demand, count));
      const spec: ClaimObject['spec'] = {
        ...{ nodeName, site, owner: holder, mode: 'Reservation', atStart: isDraining ? 'Drain' : 'Preempt', resources },
        startTime: new Date(window.startMs).toISOString(),
        endTime: new Date(window.endMs).toISOString(),
      };
      const namespace = organizationNamespace(shape.virtualOrganization);
      await client.of(claims).create({ metadata: { namespace, name, ownerReferences: [{ ...owner }] }, spec });
    }),
  );
}
