/** What a failing disk can be told to refuse. */
export type FailingCall = 'read' | 'write' | 'sync';

/** How a disk misbehaves from now on; everything is well at first. */
export class DiskFaults {
  /** Bytes that files may still grow by. */
  freeBytes = Number.POSITIVE_INFINITY;
  /** Calls that fail with EIO. */
  readonly failing = new Set<FailingCall>();
  /** Writes of at least this many bytes are torn, once each; 0: none. */
  private tearsFromBytes = 0;

  /**
   * Carries out a command: `room BYTES`, `fail read|write|sync`, `tear BYTES` (the next write of at least so many bytes is
   * said to be done, and is there in its first half only) or `heal`.
   * @throws {TypeError} for any other one.
   */
  command(text: string): void {
    const [verb = '', argument = ''] = text.split(' ');
    if (verb === 'room') this.freeBytes = Number(argument);
    else if (verb === 'fail' && isFailingCall(argument)) this.failing.add(argument);
    else if (verb === 'tear') this.tearsFromBytes = Number(argument);
    else if (verb === 'heal') this.heal();
    else throw new TypeError(`${JSON.stringify(text)} is no fault of a disk`);
  }

  /** How many bytes of a write reach the disk. */
  reaching(bytes: number): number {
    if (this.tearsFromBytes === 0 || bytes < this.tearsFromBytes) return bytes;
    this.tearsFromBytes = 0;
    return Math.floor(bytes / 2);
  }

  private heal(): void {
    this.freeBytes = Number.POSITIVE_INFINITY;
    this.failing.clear();
    this.tearsFromBytes = 0;
  }
}

function isFailingCall(text: string): text is FailingCall {
  return text === 'read' || text === 'write' || text === 'sync';
}
