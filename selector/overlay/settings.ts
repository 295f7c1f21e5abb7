/** How often and how much a node gossips. Times in milliseconds. */
export interface OverlaySettings {
  /** One round: a shuffle of the random view and an exchange with a link. */
  readonly periodMs: number;
  /** Random peers kept (CYCLON's c) and swapped per shuffle (its l). */
  readonly viewSize: number;
  readonly shuffleSize: number;
  /** Descriptors given per exchange of links. */
  readonly exchangeSize: number;
  /** A ping unanswered this long is repeated once; then the peer counts as dead. */
  readonly pingTimeoutMs: number;
  /** A query neither acknowledged nor done in this time goes to another link of the cell. */
  readonly ackTimeoutMs: number;
  /** An acknowledged branch repeats its acknowledgement this often; three missed ones are a failure. */
  readonly ackEveryMs: number;
  /** A descriptor older than this is no longer passed on; older than `descriptorAgeMaxMs` it is refused as stale. */
  readonly forwardAgeMaxMs: number;
  readonly descriptorAgeMaxMs: number;
  /** A slot with places left counts as holding its whole cell this long after a node of the cell told of it. */
  readonly wholeForMs: number;
  /** How far ahead of our clock a stamp may be. */
  readonly clockSkewMaxMs: number;
  /** New borders serve our own queries after this long; the old ones stay usable as long again. */
  readonly warmUpMs: number;
  /** Rounds of one estimation, and rounds of rest between two. */
  readonly averagingRounds: number;
  readonly averagingRestRounds: number;
  /** Branches of one query at one node that are out at the same time. */
  readonly branchesMax: number;
  /** Queries in progress at one node. */
  readonly queriesMax: number;
  /** Part of the random view that one foreign site may hold. */
  readonly siteShareMax: number;
  /** Addresses of lost peers that are tried again now and then, so that a healed partition is noticed. */
  readonly lostMax: number;
}

/** Defaults: RSS's period of 10 s and CYCLON's sizes; the rest follows from simulation (docs/selector.md). */
const defaultSettings: OverlaySettings = {
  periodMs: 10_000,
  viewSize: 20,
  shuffleSize: 6,
  exchangeSize: 8,
  pingTimeoutMs: 1_000,
  ackTimeoutMs: 600,
  ackEveryMs: 1_500,
  forwardAgeMaxMs: 200_000,
  descriptorAgeMaxMs: 600_000,
  wholeForMs: 400_000,
  clockSkewMaxMs: 60_000,
  warmUpMs: 200_000,
  averagingRounds: 25,
  averagingRestRounds: 90,
  branchesMax: 8,
  queriesMax: 256,
  siteShareMax: 0.5,
  lostMax: 32,
};

/** Defaults with some settings of one's own. Times that count rounds follow the period unless they are given too. */
export function settingsWith(own: Partial<OverlaySettings>): OverlaySettings {
  const periodMs = own.periodMs ?? defaultSettings.periodMs;
  const scale = periodMs / defaultSettings.periodMs;
  return {
    ...defaultSettings,
    warmUpMs: scale * defaultSettings.warmUpMs,
    wholeForMs: scale * defaultSettings.wholeForMs,
    forwardAgeMaxMs: Math.max(60_000, scale * defaultSettings.forwardAgeMaxMs),
    ...own,
  };
}
