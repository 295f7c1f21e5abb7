import type { Service } from '#proto/generated/xtreemfs/dir.ts';
import type { Osd } from '../placement/osd-catalogue.ts';

/** What the MRC asks of the DIR. `dir-directory.ts` speaks to a real one; tests bring their own. */
export interface Directory {
  /** Whether any volume of the installation has this name. */
  hasVolume(name: string, signal?: AbortSignal): Promise<boolean>;
  /** Announces a volume at once; later heartbeats repeat it. */
  registerVolume(service: Service): Promise<void>;
  deregister(uuid: string): Promise<void>;
  /** Every OSD with its address. */
  listOsds(signal?: AbortSignal): Promise<Osd[]>;
}
