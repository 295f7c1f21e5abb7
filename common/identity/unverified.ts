/**
 * The payload of a compact JWS (RFC 7515 §3.1), whoever signed it: only to show it, or to find the key that it names itself.
 * @throws {SyntaxError} when it is no JSON.
 */
export function unverifiedPayload(jws: string): unknown {
  return JSON.parse(Buffer.from(jws.split('.')[1] ?? '', 'base64url').toString());
}
