/** What the operator asks of a running XtreemFS: a narrow port, so that controllers can be tried without servers. */

/** An OSD as the directory knows it. */
export interface OsdReport {
  readonly uuid: string;
  /** Seconds since the Unix epoch, of the directory's clock, of its last sign of life; 0 when it said that it ends. */
  readonly lastSeenS: number;
  readonly freeBytes: number;
  readonly totalBytes: number;
  /** Whether new files may be put on it. */
  readonly takesFiles: boolean;
}

/** How far an OSD is emptied. */
export interface DrainReport {
  /** No file has a place there any more, and none comes. */
  readonly isEmpty: boolean;
  /** Undefined until they were counted. */
  readonly filesLeft: number | undefined;
  /** Why files stay; '' while nothing is in the way. */
  readonly problem: string;
}

/** A volume as the catalogue keeps it. */
export interface VolumeReport {
  /** 0: none. */
  readonly quotaBytes: number;
  readonly usedBytes: number;
  readonly files: number;
}

/** A snapshot of a volume. */
export interface SnapshotReport {
  readonly name: string;
  /** When it was taken, milliseconds since the Unix epoch. */
  readonly timeMs: number;
}

/** How far a copy of a volume is. */
export interface CopyReport {
  readonly files: number;
  readonly bytes: number;
}

/** What a new volume is to be. */
export interface VolumeTerms {
  /** `vol-` and the uid of the Volume. */
  readonly name: string;
  readonly owner: string;
  readonly group: string;
  /** Permission bits of the root folder. */
  readonly mode: number;
  readonly quotaBytes: number;
  readonly layout: VolumeLayout;
}

/** Where new files of a volume go. */
export interface VolumeLayout {
  readonly width: number;
  readonly stripeKib: number;
  readonly policy: 'None' | 'ReadOnly' | 'Quorum' | 'All';
  readonly replicas: number;
}

/**
 * One installation. Every method throws when a server can not be reached or refuses; each may be repeated at any time, also when an earlier
 * call was carried out and its answer lost.
 */
export interface Installation {
  /** The OSDs that the directory knows, also those that are away. */
  osds(signal: AbortSignal): Promise<readonly OsdReport[]>;
  /** Lets an OSD have new files, or no more; one that the directory does not know is no error. */
  setTakesFiles(uuid: string, takesFiles: boolean, signal: AbortSignal): Promise<void>;
  /**
   * Has an OSD that takes no new files emptied, and tells how far that is.
   * @param wish - names the wish for it: what was found for another one is not told.
   */
  drain(uuid: string, wish: string, signal: AbortSignal): Promise<DrainReport>;
  /** Has the directory forget an OSD that is gone. */
  forgetOsd(uuid: string, signal: AbortSignal): Promise<void>;
  /** The volume; undefined when there is none of this name. */
  volume(name: string, signal: AbortSignal): Promise<VolumeReport | undefined>;
  /** Makes the volume, unless it is there. */
  make(terms: VolumeTerms, signal: AbortSignal): Promise<void>;
  setQuota(name: string, quotaBytes: number, signal: AbortSignal): Promise<void>;
  /** The snapshots of a volume that are whole. */
  snapshots(name: string, signal: AbortSignal): Promise<readonly SnapshotReport[]>;
  /** Begins a snapshot of a volume, unless it is there or being made. */
  takeSnapshot(name: string, snapshot: string, signal: AbortSignal): Promise<void>;
  /** Removes a snapshot; one that is not there is no error. */
  removeSnapshot(name: string, snapshot: string, signal: AbortSignal): Promise<void>;
  /**
   * Copies all that a snapshot of `from` shows into the volume `to`, with owners and permissions. May be cut off and repeated.
   * @param report - told now and then how far it is.
   */
  copy(
    from: { readonly name: string; readonly snapshot: string },
    to: string,
    report: (progress: CopyReport) => void,
    signal: AbortSignal,
  ): Promise<void>;
  /** Sets where new files go, unless that is so. */
  setLayout(name: string, layout: VolumeLayout, signal: AbortSignal): Promise<void>;
  /**
   * Deletes files, their contents at the OSDs, and at last the volume; as much as `limit` files at once.
   * @returns whether all of it is gone.
   */
  erase(name: string, limit: number, signal: AbortSignal): Promise<boolean>;
}
