/** The certificate authority of the site, by cert-manager. Programs get certificates of it; nothing outside the release trusts it. */
import { named, namespace, templatesOf, type Add, type Template } from './shared.ts';

const apiVersion = 'cert-manager.io/v1';
const condition = '.Values.certificates.create';
/** Ten years, in hours as cert-manager writes it: peers keep the authority for long. */
const authorityDuration = '87600h0m0s';

/** The Issuer that certificates of this site come from. */
export const siteIssuer = { group: 'cert-manager.io', kind: 'Issuer', name: named('ca') };

/** A Certificate of the site's authority, as a template. */
export function addCertificate(add: Add, id: string, name: string, spec: Record<string, unknown>): void {
  const fields = { metadata: { name, namespace }, spec: { secretName: name, issuerRef: siteIssuer, ...spec } };
  add(id, apiVersion, 'Certificate', fields, condition);
}

/** The site's authority: a self-signed root that lives in this namespace, and the Issuer that signs with it. */
export function certificateTemplates(): Template[] {
  return templatesOf('certificates', (add) => {
    const selfSigned = { group: 'cert-manager.io', kind: 'Issuer', name: named('self-signed') };
    add(
      'certificates-self-signed-issuer',
      apiVersion,
      'Issuer',
      { metadata: { name: selfSigned.name, namespace }, spec: { selfSigned: {} } },
      condition,
    );
    addCertificate(add, 'certificates-ca', named('ca'), {
      isCA: true,
      commonName: named('ca'),
      duration: authorityDuration,
      privateKey: { algorithm: 'ECDSA', size: 256 },
      issuerRef: selfSigned,
    });
    add(
      'certificates-issuer',
      apiVersion,
      'Issuer',
      { metadata: { name: siteIssuer.name, namespace }, spec: { ca: { secretName: named('ca') } } },
      condition,
    );
  });
}
