/** The home of a virtual organization tells other sites about it. */
import type { IdentitySlice } from '#crds/identity-slice.ts';
import { homeElsewhere, organizationNamespace } from '#crds/organization.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { VOMembership } from '#crds/vo-membership.ts';
import type { Volume } from '#crds/volume.ts';
import { peerMethods, type FollowEvent } from '#proto/site/schema.ts';
import { PeerError, type PeerMethod, streaming } from '#operator/gateway/peers/contract.ts';
import type { StateRecords } from '#operator/identity/state-record.ts';
import type { Informer } from '#runtime/contracts.ts';
import type { Stored } from '#runtime/types.ts';
import { tellMember, tellOrganization, tellSlice, tellVolume } from './documents.ts';

/** What telling takes: caches only. */
export interface HomeParts {
  readonly organizations: Informer<VirtualOrganization>;
  readonly memberships: Informer<VOMembership>;
  readonly slices: Informer<IdentitySlice>;
  readonly volumes: Informer<Volume>;
  readonly records: StateRecords;
  readonly localSite: string;
}

/** What was changed and not told yet; each thing once, so that a slow reader costs no more memory than there are things. */
class Untold {
  readonly members = new Set<string>();
  readonly volumes = new Set<string>();
  organization = true;
  private wake: (() => void) | undefined;

  addOrganization(): void {
    this.organization = true;
    this.wake?.();
  }

  addMember(name: string): void {
    this.members.add(name);
    this.wake?.();
  }

  addVolume(name: string): void {
    this.volumes.add(name);
    this.wake?.();
  }

  async next(signal: AbortSignal): Promise<void> {
    if (this.organization || this.members.size > 0 || this.volumes.size > 0 || signal.aborted) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        signal.removeEventListener('abort', done);
        this.wake = undefined;
        resolve();
      };
      this.wake = done;
      signal.addEventListener('abort', done, { once: true });
    });
  }
}

/** Lets sites that a virtual organization names follow it. */
export function followMethod(parts: HomeParts): PeerMethod {
  return streaming(peerMethods.Follow, async function* (requests, caller): AsyncGenerator<FollowEvent> {
    let name = '';
    for await (const { virtualOrganization } of requests) {
      name = virtualOrganization;
      break;
    }
    caller.charge(name);
    const namespace = organizationNamespace(name);
    // What is not known yet would be told as gone.
    await parts.volumes.synced(caller.signal);
    const untold = new Untold();
    const stops = [
      parts.organizations.onEvent(({ object }) => {
        if (object.metadata.name === name) untold.addOrganization();
      }),
      parts.slices.onEvent(({ object }) => {
        if (object.spec.virtualOrganization.name === name) untold.addOrganization();
      }),
      parts.records.informer.onEvent(() => untold.addOrganization()),
      parts.memberships.onEvent(({ object }) => {
        if (object.metadata.namespace === namespace) untold.addMember(object.metadata.name);
      }),
      parts.volumes.onEvent(({ object }) => {
        if (object.metadata.namespace === namespace) untold.addVolume(object.metadata.name);
      }),
    ];
    try {
      let isWhole = false;
      let last = '';
      const toldVolumes = new Map<string, string>();
      while (!caller.signal.aborted) {
        const vo = permitted(parts, name, caller.site);
        if (untold.organization) {
          untold.organization = false;
          const events = await organizationEvents(parts, vo);
          if (events === undefined && !isWhole)
            throw new PeerError('Busy', `${name} has no signed state yet: ask again.`);
          const text = JSON.stringify(events);
          if (text !== last) yield* events ?? [];
          last = text;
        }
        for (const member of untold.members) {
          untold.members.delete(member);
          yield memberEvent(parts, namespace, member);
        }
        for (const volume of untold.volumes) {
          untold.volumes.delete(volume);
          const event = volumeEvent(parts, namespace, volume);
          // What was observed of it changes often, and is nobody's business elsewhere.
          if (toldVolumes.get(volume) === event.json) continue;
          toldVolumes.set(volume, event.json);
          yield event;
        }
        if (!isWhole) yield { kind: 'WHOLE', name, json: '' };
        isWhole = true;
        await untold.next(caller.signal);
      }
    } finally {
      for (const stop of stops) stop();
    }
  });
}

/** Asked for each time, so that a site which is not named any more hears nothing more. @throws {PeerError} `Refused` */
export function permitted(
  { organizations, localSite }: Pick<HomeParts, 'organizations' | 'localSite'>,
  name: string,
  site: string,
): Stored<VirtualOrganization> {
  const vo = organizations.get({ name });
  if (vo !== undefined && homeElsewhere(vo, localSite) === undefined && vo.spec.sites.includes(site)) return vo;
  // Whether there is one is nobody's business.
  throw new PeerError(
    'Refused',
    `There is no virtual organization ${name.slice(0, 64)} here that names your site: its administrators add it to spec.sites.`,
  );
}

/** Slices first: whoever hears of a member or a group knows the ids by then. */
async function organizationEvents(
  { records, slices }: HomeParts,
  vo: Stored<VirtualOrganization>,
): Promise<FollowEvent[] | undefined> {
  const { name, uid } = vo.metadata;
  const genesis = vo.status?.genesis;
  const found = genesis === undefined ? undefined : await records.newest(uid, genesis);
  if (found === undefined) return undefined;
  const own = slices.list().filter(({ spec }) => spec.virtualOrganization.uid === uid);
  return [
    ...own.map(({ metadata, spec }): FollowEvent => ({ kind: 'SLICE', name: metadata.name, json: tellSlice(spec) })),
    { kind: 'ORGANIZATION', name, json: tellOrganization(vo, found.documents) },
  ];
}

function memberEvent({ memberships }: HomeParts, namespace: string, name: string): FollowEvent {
  const membership = memberships.get({ namespace, name });
  const json = membership === undefined ? undefined : tellMember(membership);
  return json === undefined ? { kind: 'REMOVED', name, json: '' } : { kind: 'MEMBER', name, json };
}

function volumeEvent({ volumes }: HomeParts, namespace: string, name: string): FollowEvent {
  const volume = volumes.get({ namespace, name });
  const json = volume === undefined ? undefined : tellVolume(volume);
  return json === undefined ? { kind: 'VOLUME_REMOVED', name, json: '' } : { kind: 'VOLUME', name, json };
}
