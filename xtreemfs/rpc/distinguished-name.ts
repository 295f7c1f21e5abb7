/** A distinguished name, read from the text that Node.js gives. */
export interface DistinguishedName {
  /** Comma-separated, most specific first. */
  readonly text: string;
  /** Values of one attribute, in the order of the certificate. */
  values(attribute: string): readonly string[];
}

/**
 * Reads `X509Certificate.subject`: one `ATTRIBUTE=value` a line, most general first; a value with special characters
 * is in quotes or has backslashes, as openssl writes it.
 */
export function distinguishedName(subject: string | undefined): DistinguishedName {
  // Node gives no text for an empty subject, as certificates have that bear alternative names only (RFC 5280, 4.1.2.6).
  const pairs = (subject ?? '')
    .split('\n')
    .filter((line) => line.includes('='))
    .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)] as const);
  return {
    text: pairs
      .toReversed()
      .map(([attribute, value]) => `${attribute}=${value}`)
      .join(','),
    values: (attribute) => pairs.filter(([name]) => name === attribute).map(([, value]) => value),
  };
}
