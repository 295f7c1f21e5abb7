import type { KindDefinition } from './kind.ts';
import { siteDefinition } from './site.ts';

/** Every kind, in the order of the reference. A new kind joins here and gets its manifest, schema, reference and tests. */
export const kinds: readonly KindDefinition[] = [siteDefinition];
