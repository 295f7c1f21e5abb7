/** Words that the kinds of virtual organizations and Site share. */
import type { z } from 'zod';
import { choice, dnsLabel, integer, listSet, quantity, text } from './vocabulary.ts';

/** `vo-` and the name of a virtual organization make a namespace, so 60 characters are left. */
export const virtualOrganizationNameMax = 60;

/** The namespace of a virtual organization. */
export function organizationNamespace(organization: string): string {
  return `vo-${organization}`;
}

/** The virtual organization whose namespace it is, if one of this name exists. */
export function organizationOfNamespace(namespace: string | undefined): string | undefined {
  return namespace?.startsWith('vo-') === true ? namespace.slice(3) : undefined;
}

/** Longest name of an identity provider; `x509:` and the name make an issuer. */
export const providerNameMax = 63;

/** Most groups of a virtual organization; each holds one of the 1,023 group ids of a slice. */
export const groupsMax = 256;

/** `priority` of a job is at most this, and at least its negative. */
export const jobPriorityLimit = 1_000;
/** Annotation of the namespace: the highest `priority` that members may give their jobs. The operator writes it; without it they may give none above 0. */
export const jobPriorityAnnotation = 'xtreemos.io/job-priority-max';

/** Roles that every virtual organization has. */
export const builtInRoles = ['administrator', 'member', 'observer'] as const;

/** Longest path of a group; with 256 groups the rule about parents stays within the cost that the API server allows. */
export const groupPathMax = 100;

/**
 * Who someone is: what an issuer calls them. Never an e-mail address or a name, which issuers give to somebody else later. Subjects are
 * printable ASCII, so that two that look alike are alike.
 */
export const principalFields = {
  issuer: text(
    'Who says so: the https URL of an OpenID provider, `kubernetes:` and the name of a site, or `x509:` and the name of an identity provider of type ClientCertificate.',
    {
      minLength: 6,
      maxLength: 255,
      pattern: /^(https:\/\/[!"$->@-~]+|(kubernetes|x509):[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)$/,
      patternMeans: 'use an https URL without query and fragment, kubernetes:SITE or x509:PROVIDER',
    },
  ),
  subject: text(
    'What the issuer calls them, exactly: the claim `sub`, the Kubernetes user name, or the subject of the certificate (RFC 4514).',
    {
      minLength: 1,
      maxLength: 255,
      pattern: /^[!-~]([ -~]*[!-~])?$/,
      patternMeans: 'use printable ASCII that neither starts nor ends with a space',
      rules: [
        {
          rule: "!self.startsWith('system:')",
          message: 'subjects that start with system: belong to Kubernetes itself and can not take part',
        },
      ],
    },
  ),
};

/** The path of a group in the tree of a virtual organization. */
export const groupPath = (about: string): z.ZodString =>
  text(about, {
    minLength: 1,
    maxLength: groupPathMax,
    pattern: /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\/[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/,
    patternMeans: 'use lower-case letters, digits and hyphens, with / between the levels',
  });

/** The name of a role. */
export const roleName = (about: string): z.ZodString => dnsLabel(about, { maxLength: 32 });

/** What its holder may do. */
export const capabilities = (about: string): z.ZodArray<z.ZodString> =>
  listSet(
    about,
    text('A capability: an area, a dot and a verb, for example `jobs.manage`.', {
      minLength: 3,
      maxLength: 64,
      pattern: /^[a-z][a-z0-9]*(\.[a-z][a-z0-9]*)+$/,
      patternMeans: 'use lower-case words with dots between them, for example jobs.manage',
    }),
    { maxItems: 32 },
  );

/** Amounts that a virtual organization may use of one site. What is left out is not limited. */
export const limitFields = {
  cpu: quantity('CPU that its pods may request together, for example `64`.').optional(),
  memory: quantity('Memory that its pods may request together, for example `256Gi`.').optional(),
  storage: quantity('Storage that its volumes may request together, for example `10Ti`.').optional(),
  jobs: integer('Executions that may run or wait here at the same time.', { min: 0, max: 1_000_000 }).optional(),
};

/** A way to keep pods of different members apart. */
export const isolationLevel = (about: string): ReturnType<typeof choice<IsolationLevel>> =>
  choice(about, {
    Namespace: 'a namespace with default-deny network and Pod Security `restricted`.',
    UserNamespace: 'also a user namespace per pod.',
    Sandbox: 'also a sandboxed runtime (a RuntimeClass).',
    DedicatedNode: 'also nodes that no other virtual organization uses at the time.',
  });

/** From weakest to strongest. */
export type IsolationLevel = 'Namespace' | 'UserNamespace' | 'Sandbox' | 'DedicatedNode';

/** A user or group id out of a slice. */
export const issuedId = (about: string): z.ZodInt => integer(about, { min: 2_013_265_920, max: 2_147_483_647 });

/** `sha256:` and 64 hexadecimal digits. */
export const digest = (about: string): z.ZodString =>
  text(about, {
    minLength: 71,
    maxLength: 71,
    pattern: /^sha256:[0-9a-f]{64}$/,
    patternMeans: 'use sha256: and 64 hexadecimal digits',
  });

/** The home of a virtual organization when that is another site; undefined when it is this one. */
export function homeElsewhere(
  { spec }: { readonly spec: { readonly homeSite?: string | undefined } },
  localSite: string,
): string | undefined {
  return spec.homeSite === localSite ? undefined : spec.homeSite;
}
