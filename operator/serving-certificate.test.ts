import { X509Certificate } from 'node:crypto';
import { expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { createServingCertificate } from './serving-certificate.ts';

test('the certificate is for the name, valid now, and made anew each time', async () => {
  const clock = new VirtualClock(Date.UTC(2026, 5, 1));
  const [first, second] = [await createServingCertificate('a', clock), await createServingCertificate('a', clock)];
  const parsed = new X509Certificate(first.cert);
  expect(parsed.subjectAltName).toBe('DNS:a');
  expect(Date.parse(parsed.validFrom)).toBeLessThan(clock.now());
  expect(Date.parse(parsed.validTo)).toBeGreaterThan(clock.now() + 365 * 24 * 3_600_000);
  expect(parsed.ca).toBe(false);
  expect(first.key).toContain('BEGIN PRIVATE KEY');
  expect(new X509Certificate(second.cert).serialNumber).not.toBe(parsed.serialNumber);
});
