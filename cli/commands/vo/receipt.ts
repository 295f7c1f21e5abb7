/** What a site signed at the end of a virtual organization, in words. */
import { z } from 'zod';
import { unverifiedPayload } from '#common/identity/unverified.ts';

/** The claims that are shown; those of `ReceiptClaims` in the operator. */
const claims = z.object({
  completedTime: z.string(),
  data: z.enum(['Erase', 'Export']),
  removed: z.array(z.object({ resource: z.string(), count: z.number() })),
  volumes: z.array(z.object({ name: z.string() })),
});

/** Reads a receipt for people, without asking whether the signature holds: whoever keeps it for that takes it from `-o yaml`. Pure. */
export function receiptText(receipt: string): string {
  const content = claims.safeParse(payloadOf(receipt));
  if (!content.success) return 'signed a receipt that this version does not know; -o yaml has it';
  const { completedTime, data, removed, volumes } = content.data;
  const kinds = removed.filter(({ count }) => count > 0).map(({ resource, count }) => `${count} ${resource}`);
  const gone = kinds.length === 0 ? 'nothing was there' : `gone are ${kinds.join(', ')}`;
  const word = data === 'Erase' ? 'erased' : 'set aside for the owner of the site';
  const kept = volumes.length === 0 ? 'no volumes' : `volumes ${word}: ${volumes.map(({ name }) => name).join(', ')}`;
  return `signed at ${completedTime} that ${gone}; ${kept} (the receipt: -o yaml)`;
}

function payloadOf(receipt: string): unknown {
  try {
    return unverifiedPayload(receipt);
  } catch {
    return undefined;
  }
}
