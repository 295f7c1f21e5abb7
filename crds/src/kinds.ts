import { claimDefinition } from './claim.ts';
import { identitySliceDefinition } from './identity-slice.ts';
import type { KindDefinition } from './kind.ts';
import { executionDefinition } from './execution.ts';
import { fileSystemDefinition } from './file-system.ts';
import { gridJobDefinition } from './grid-job.ts';
import { reservationDefinition } from './reservation.ts';
import { siteDefinition } from './site.ts';
import { virtualOrganizationDefinition } from './virtual-organization.ts';
import { volumeDefinition } from './volume.ts';
import { voMembershipDefinition } from './vo-membership.ts';

/** Every kind, in the order of the reference. A new kind joins here and gets its manifest, schema, reference and tests. */
export const kinds: readonly KindDefinition[] = [
  siteDefinition,
  virtualOrganizationDefinition,
  voMembershipDefinition,
  identitySliceDefinition,
  claimDefinition,
  gridJobDefinition,
  executionDefinition,
  reservationDefinition,
  fileSystemDefinition,
  volumeDefinition,
];
