import { StateKeeper, type VerifiedState, verifyGenesis } from '#common/identity/vo-state.ts';
import type { VolumeSpec } from '#crds/volume.ts';
import type { VOMembership } from '#crds/vo-membership.ts';
import type { FollowEvent } from '#proto/site/schema.ts';
import { PeerError } from '#operator/gateway/peers/contract.ts';
import {
  type FollowedOrganization,
  type FollowedSlice,
  readMember,
  readOrganization,
  readSlice,
  readVolume,
} from './documents.ts';

/** More than any virtual organization has; whoever tells more is not taken seriously. */
const membersMax = 200_000;
const slicesMax = 64;
const volumesMax = 20_000;

/** What was verified here of a virtual organization, before this call. */
export interface Pinned {
  /** Digest of the founding document. */
  readonly genesis: string | undefined;
  readonly epoch: number;
  /** Of the state of that epoch. */
  readonly digest: string | undefined;
}

/** The home does not know what it has signed: an older state was restored there (threats 29, 64). */
export class ForgottenStateError extends PeerError {
  constructor(problem: string) {
    super('Invalid', `${problem}: an older state was restored at its home.`);
  }
}

/** Everything that the home has told, checked. */
export class Told {
  organization: FollowedOrganization | undefined;
  /** The signed state in {@link organization}, verified. */
  state: VerifiedState | undefined;
  /** Thumbprint of the root key. */
  rootKid = '';
  readonly slices = new Map<string, FollowedSlice>();
  readonly members = new Map<string, VOMembership['spec']>();
  readonly volumes = new Map<string, VolumeSpec>();
  /** Whether everything was told once. */
  isWhole = false;
  private readonly home: string;
  private readonly pinned: Pinned;
  private keeper: StateKeeper | undefined;

  constructor(home: string, pinned: Pinned) {
    this.home = home;
    this.pinned = pinned;
  }

  /** Takes one word of the home. @throws {PeerError} or {CredentialError}; then nothing more of this call is to be taken. */
  async take(event: FollowEvent): Promise<void> {
    switch (event.kind) {
      case 'WHOLE':
        if (this.organization === undefined)
          throw new PeerError('Invalid', 'Nothing was told of the organization itself.');
        this.isWhole = true;
        return;
      case 'ORGANIZATION':
        return this.takeOrganization(event);
      case 'SLICE':
        if (this.slices.size >= slicesMax && !this.slices.has(event.name))
          throw new PeerError('Invalid', 'It has too many slices.');
        this.slices.set(event.name, readSlice(event));
        return;
      case 'MEMBER':
        if (this.members.size >= membersMax && !this.members.has(event.name))
          throw new PeerError('Invalid', 'It has too many members.');
        this.members.set(event.name, readMember(event));
        return;
      case 'REMOVED':
        this.members.delete(event.name);
        return;
      case 'VOLUME':
        if (this.volumes.size >= volumesMax && !this.volumes.has(event.name))
          throw new PeerError('Invalid', 'It has too many volumes.');
        this.volumes.set(event.name, readVolume(event, this.home));
        return;
      case 'VOLUME_REMOVED':
        this.volumes.delete(event.name);
    }
  }

  private async takeOrganization(event: FollowEvent): Promise<void> {
    const organization = readOrganization(event, this.home);
    if (this.keeper === undefined) {
      const genesis = await verifyGenesis(organization.genesis, this.pinned.genesis);
      const { vo, homeSite } = genesis.content;
      if (vo.uid !== organization.uid || vo.name !== event.name || homeSite !== this.home)
        throw new PeerError(
          'Invalid',
          'The founding document is that of another virtual organization, or of another home.',
        );
      this.keeper = new StateKeeper(genesis);
      this.rootKid = genesis.rootKid;
    }
    // An older state, or another one of the same number, is refused (threat 29).
    const state = await this.keeper.accept(organization.state);
    const { epoch } = state.content;
    if (epoch < this.pinned.epoch)
      throw new ForgottenStateError(`Its state has epoch ${epoch}, and ${this.pinned.epoch} was seen here already`);
    if (epoch === this.pinned.epoch && this.pinned.digest !== undefined && state.digest !== this.pinned.digest)
      throw new ForgottenStateError(`Its state is another one of epoch ${epoch} than was seen here already`);
    this.state = state;
    this.organization = organization;
  }
}
