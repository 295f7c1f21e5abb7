/** What a site signed at the end of a virtual organization, in words. */
import { z } from 'zod';
import { unverifiedPayload } from '#common/identity/unverified.ts';

/** The claims that are shown; those of `ReceiptClaims` in the operator. */
const claims = z.object({
  completedTime: z.string(),
  data: z.enum(['Erase', 'Export']),
  removed: z.array(z.object({ resource: z.string(), count: z.number() })),
  volumes: z.array(
    z.object({
      name: z.string(),
      claim: z.string().optional(),
      outcome: z.enum(['Erased', 'Retained']).optional(),
      location: z.string().optional(),
    }),
  ),
});

type Claims = z.infer<typeof claims>;

/** Reads a receipt for people, without asking whether the signature holds: whoever keeps it for that takes it from `-o yaml`. Pure. */
export function receiptText(receipt: string): string {
  const content = claims.safeParse(payloadOf(receipt));
  if (!content.success) return 'signed a receipt that this version does not know; -o yaml has it';
  const { completedTime, data, removed, volumes } = content.data;
  const kinds = removed.filter(({ count }) => count > 0).map(({ resource, count }) => `${count} ${resource}`);
  const gone = kinds.length === 0 ? 'nothing was there' : `gone are ${kinds.join(', ')}`;
  return `signed at ${completedTime} that ${gone}; ${volumesText(data, volumes)} (the receipt: -o yaml)`;
}

function volumesText(data: Claims['data'], volumes: Claims['volumes']): string {
  const word = data === 'Erase' ? 'erased' : 'set aside for the owner of the site';
  const others = volumes.filter(({ outcome }) => outcome === undefined).map(({ name }) => name);
  const erased = volumes.filter(({ outcome }) => outcome === 'Erased').map(({ name, claim = name }) => claim);
  const kept = volumes.flatMap(({ name, claim = name, outcome, location }) =>
    outcome === 'Retained' ? [`${claim} (${location ?? name})`] : [],
  );
  const parts = [
    ...(others.length === 0 ? [] : [`volumes ${word}: ${others.join(', ')}`]),
    ...(erased.length === 0 ? [] : [`Volumes erased: ${erased.join(', ')}`]),
    ...(kept.length === 0 ? [] : [`files kept at the MRC: ${kept.join(', ')}`]),
  ];
  return parts.length === 0 ? 'no volumes' : parts.join('; ');
}

function payloadOf(receipt: string): unknown {
  try {
    return unverifiedPayload(receipt);
  } catch {
    return undefined;
  }
}
