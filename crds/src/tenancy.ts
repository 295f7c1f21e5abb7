/** What a site tells of a virtual organization: conditions, and how far its dissolution is. */
import { defineCondition } from './conditions.ts';
import { digest } from './organization.ts';
import { choice, generation, integer, listMap, object, text, timestamp } from './vocabulary.ts';

/** Whether the owner of this site lets the virtual organization use it. */
export const accepted = defineCondition('Accepted', 'The owner of this site lets it use the site.', {
  AcceptedBySite: 'Surfaces when `acceptedVirtualOrganizations` of the local Site names it.',
  NotAccepted: 'Surfaces when the local Site does not name it; its owner adds it to `acceptedVirtualOrganizations`.',
  Cut: 'Surfaces when the local Site named it and no longer does: nothing runs, ids and data are kept.',
  NoLocalSite: 'Surfaces when there is no local Site; the operator makes it.',
  HomeElsewhere:
    'Surfaces when `homeSite` is another site than the owner of this one accepts it from, or when its home has not told of it yet.',
});

/** Whether its namespace is as it must be. */
export const tenancyReady = defineCondition('TenancyReady', 'Its namespace on this site is as it must be.', {
  SetUp: 'Surfaces when namespace, quota, network and rights are in place.',
  EgressRefused:
    'Surfaces when destinations in `network.egress` lie within the addresses of the site itself (nodes, pods, API server, metadata service): they stay closed, and all else is set up.',
  NetworkOpen:
    'Surfaces when the site does not offer closed networks (`spec.local.networkIsolation` of its Site is NotOffered) and all is set up: its pods and those of others reach each other.',
  NetworkNotIsolated:
    'Surfaces when the network of the site was found not to enforce NetworkPolicy: nothing new starts, what runs goes on. See `NetworkIsolated` of the Site.',
  NotAccepted: 'Surfaces when the site does not accept it: nothing is made for it.',
  Closed: 'Surfaces when the site has cut it: what runs is being ended.',
  NamespaceTaken:
    'Surfaces when a namespace of that name exists that was not made for this virtual organization. It is never taken over: its owner removes it, or the virtual organization is formed under another name.',
  NamespaceTerminating: 'Surfaces while the namespace is being deleted; a new one is made once it is gone.',
  IsolationNotOffered: 'Surfaces when the site offers no isolation that is as strong as `isolation.minimum`.',
  IsolationUnavailable: 'Surfaces when the site offers an isolation whose means it lacks; the message says which.',
  Removed: 'Surfaces once the dissolution has removed everything.',
});

/** How far its dissolution is. */
export const dissolved = defineCondition('Dissolved', 'It is dissolved and nothing of it is left on this site.', {
  NotRequested: 'Surfaces while nobody has asked for it.',
  AwaitingApproval: 'Surfaces when a second administrator has to approve first.',
  Delayed: 'Surfaces while the delay of `governance` runs; any administrator may withdraw the request.',
  Revoking: 'Surfaces while its credentials are being revoked by a final signed state.',
  Draining: 'Surfaces while its pods are being ended.',
  ClearingData: 'Surfaces while its volumes are being erased or set aside.',
  RemovingTenancy: 'Surfaces while its namespace and rights are being removed; the message says what is in the way.',
  Signing: 'Surfaces while the receipt is being signed.',
  Complete: 'Surfaces once nothing is left and the receipt says so.',
});

/** Volumes that a receipt names one by one; the rest are counted. */
export const namedVolumesMax = 32;

/** `status.dissolution`: what is known so far, kept so that a dissolution goes on after a crash and its receipt tells the whole. */
export const dissolutionStatus = object('How far the dissolution is. Absent while nobody has asked for it.', {
  startedTime: timestamp('When it began; from then on it can not be withdrawn.').optional(),
  completedTime: timestamp('When nothing was left.').optional(),
  data: choice('What becomes of the data.', {
    Erase: 'volumes are erased.',
    Export:
      'volumes are set aside for the owner of the site; Volumes, homes among them, as their `reclaimPolicy` says.',
  }).optional(),
  epoch: generation('Number of the final signed state.').optional(),
  stateDigest: digest('Digest of the final signed state.').optional(),
  inventory: listMap(
    'What there was when it began, and is removed.',
    object('Objects of one kind.', {
      resource: text('Plural name of the kind, with its group.', { maxLength: 253 }),
      count: integer('How many there were.', { min: 0, max: 2_147_483_647 }),
    }),
    { maxItems: 32, keys: ['resource'] },
  ).optional(),
  volumes: listMap(
    `Its volumes; at most ${namedVolumesMax} are named.`,
    object('A volume.', {
      name: text('Name of the PersistentVolume.', { maxLength: 253 }),
      claim: text('Name of the PersistentVolumeClaim.', { maxLength: 253 }),
      size: text('How large it is.', { maxLength: 32 }),
      outcome: choice('What becomes of a Volume; absent for other PersistentVolumes, which `data` is about.', {
        Erased: 'its files are erased.',
        Retained: 'its files stay at the MRC.',
      }).optional(),
      location: text('Where files that stay are found.', { maxLength: 512 }).optional(),
    }),
    { maxItems: namedVolumesMax, keys: ['name'] },
  ).optional(),
});
