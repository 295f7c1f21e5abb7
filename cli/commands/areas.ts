import type { Area } from '../frame/command.ts';
import { completionArea } from './completion/index.ts';
import { filesArea } from './files/index.ts';
import { jobArea } from './job/index.ts';
import { memberArea } from './member/index.ts';
import { sessionArea } from './session/index.ts';
import { siteArea } from './site/index.ts';
import { voArea } from './vo/index.ts';
import { volumeArea } from './volume/index.ts';

/** Every area, in the order of help and reference. A new area joins here. */
export const areas: readonly Area[] = [
  sessionArea,
  jobArea,
  volumeArea,
  filesArea,
  voArea,
  memberArea,
  siteArea,
  completionArea,
];
