/**
 * What clients and a gateway say to each other: HTTPS and JSON, port 7443, paths below `/v1`. The gateway checks requests with these schemas,
 * clients check answers with them. Times are RFC 3339 in UTC. Every answer of 400 and above is an {@link errorAnswer}.
 *
 * | request | who asks | body → answer |
 * | --- | --- | --- |
 * | `GET /v1/site` | anyone | → {@link siteAnswer} |
 * | `POST /v1/sessions` | see the methods | {@link sessionRequest} → 201 {@link sessionAnswer}, or 202 {@link pendingAnswer} |
 * | `POST /v1/sessions/refresh` | holder of a refresh token | {@link refreshRequest} → {@link sessionAnswer} |
 * | `DELETE /v1/sessions` | session | → 204; ends the session and every session token of it |
 * | `GET /v1/whoami` | session | → {@link whoamiAnswer} |
 * | `POST /v1/token` | session | {@link tokenRequest} → {@link tokenAnswer} |
 * | `POST /v1/kubernetes-credential` | session | {@link kubernetesCredentialRequest} → {@link kubernetesCredentialAnswer} |
 * | `GET /v1/virtual-organizations/NAME/state` | anyone | → {@link stateAnswer} |
 * | `POST /v1/virtual-organizations/NAME/requests` | session | {@link joinRequest} → {@link joinAnswer} |
 * | `POST /v1/virtual-organizations/NAME/selection` | session | requirements, as operator/gateway/selection.ts has them → {@link selectionAnswer} |
 * | `POST /v1/jobs` | task | {@link childRequest} → 201 {@link jobAnswer}; submits a job below that of the task |
 * | `GET /v1/jobs` | task | → {@link jobsAnswer}: the job of the task, and those below it |
 * | `GET /v1/jobs/JOB` | task | → {@link jobAnswer} of one of these |
 * | `POST /v1/jobs/JOB/control` | task | {@link jobControlRequest} → {@link jobAnswer}; JOB is below that of the task |
 * | `GET /v1/virtual-organizations/NAME/jobs/JOB/tasks/INDEX/log`, `exec`, `attach` | token of a member for the API server | a WebSocket: common/identity/task-stream.ts |
 * | `POST /v1/peers` | holder of an invitation | {@link peerRequest} → 201 {@link peerAnswer}; makes the sender's site a peer |
 *
 * «session» means the header `Authorization: Bearer SESSION-TOKEN`. «task» means a process in a pod of a job with `spec.gridAccess`, and the same
 * header with the token in the file that `XTREEMOS_GATEWAY_TOKEN_FILE` names.
 */
import { z } from 'zod';

/** A token of any kind; none of ours comes near this. */
const token = z.string().min(1).max(16_384);
const name = z
  .string()
  .max(63)
  .regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/, 'use lower-case letters, digits and hyphens');
const moment = z.iso.datetime();
/** base64url of a SHA-256: the challenge of RFC 7636 §4.2. */
const challenge = z.string().regex(/^[A-Za-z0-9_-]{43}$/, 'use the base64url SHA-256 of the verifier');
const verifier = z.string().regex(/^[A-Za-z0-9._~-]{43,128}$/, 'use the verifier that the challenge was made of');
const organization = name.max(60);

/** Virtual organizations that a session is for; it gives nothing for others, nor lets one ask to join them. */
export const organizationsAsked = z.array(organization).min(1).max(16);

/** Who someone is: what an issuer calls them, exactly. */
export const principalSchema = z.strictObject({
  issuer: z.string().min(1).max(255),
  subject: z.string().min(1).max(255),
});
/** Answer to `GET /v1/site`: how one can log in here. */
export const siteAnswer = z.object({
  site: name,
  /** `host:port` under which users reach this gateway. */
  address: z.string(),
  version: z.string(),
  /** Whether the cluster's own users can log in (method `kubernetes`). */
  kubernetesLogin: z.boolean(),
  identityProviders: z.array(
    z.discriminatedUnion('type', [
      z.object({ name, type: z.literal('OpenIDConnect'), issuer: z.string() }),
      z.object({ name, type: z.literal('ClientCertificate') }),
    ]),
  ),
});

const narrowed = { virtualOrganizations: organizationsAsked.optional() };

/**
 * Body of `POST /v1/sessions`.
 * - `kubernetes`: the request carries what `kubectl` would: a client certificate of the cluster, or `Authorization: Bearer` with a token of it.
 * - `certificate`: the request comes with a client certificate of the provider.
 * - `device`: first with `challenge`; the answer is 202 with a handle, a code for the user and an address of the gateway to type it in. There the user
 *   logs in, and sees which program asks, from where, and for what, before they agree. The program asks, every `intervalSeconds`, with `handle` and
 *   `verifier`: 202 until somebody has decided, then 201 once.
 * - `code`: first with `challenge` and a `redirectURI` on the loopback of the client; the answer is 202 with a handle and the address to open.
 *   Then with `handle`, `verifier` and the whole `callbackURL` that the browser came back to.
 *
 * With `virtualOrganizations` the session is for these alone. `challenge` is the base64url SHA-256 of a fresh random `verifier` (43 to 128 characters) that the client keeps: nobody else can use the handle.
 */
export const sessionRequest = z.union(
  [
    z.strictObject({ method: z.literal('kubernetes'), ...narrowed }),
    z.strictObject({ method: z.literal('certificate'), provider: name, ...narrowed }),
    z.strictObject({ method: z.literal('device'), provider: name, challenge, ...narrowed }),
    z.strictObject({ method: z.literal('device'), handle: token, verifier }),
    z.strictObject({
      method: z.literal('code'),
      provider: name,
      challenge,
      redirectURI: z
        .string()
        .max(255)
        .regex(
          /^http:\/\/(127\.0\.0\.1|\[::1\]|localhost)(:[0-9]{1,5})?(\/[A-Za-z0-9._~/-]*)?$/,
          'use an http URL on the loopback, for example http://127.0.0.1:8400/callback',
        ),
      ...narrowed,
    }),
    z.strictObject({ method: z.literal('code'), handle: token, verifier, callbackURL: z.string().min(1).max(8192) }),
  ],
  {
    error:
      'use one of {method: kubernetes}, {method: certificate, provider}, {method: device, provider, challenge}, {method: device, handle, verifier}, {method: code, provider, challenge, redirectURI (http, loopback)}, {method: code, handle, verifier, callbackURL}, the first of each method also with virtualOrganizations; names in lower case, challenge and verifier as in RFC 7636',
  },
);
/** How somebody logs in. */
export type SessionRequest = z.infer<typeof sessionRequest>;

/** A session has begun, or was refreshed. */
export const sessionAnswer = z.object({
  principal: principalSchema,
  /** Goes into `Authorization: Bearer`; at most ten minutes. */
  sessionToken: token,
  sessionTokenExpiresAt: moment,
  /** Good for one `POST /v1/sessions/refresh`; each answer brings the next. Using it for another one ends the session. */
  refreshToken: token,
  /** When the session ends at the latest and one has to log in again. */
  expiresAt: moment,
});
/** A session as the client gets it. */
export type SessionAnswer = z.infer<typeof sessionAnswer>;

/** 202: the user has to do something in a browser. Poll with `handle`. */
export const pendingAnswer = z.discriminatedUnion('method', [
  z.object({
    method: z.literal('device'),
    handle: token,
    /** Absent in answers to polls. */
    userCode: z.string().optional(),
    /** Where the user types the code. */
    verificationURI: z.string().optional(),
    /** The same with the code in it, where the provider has such. */
    verificationURIComplete: z.string().optional(),
    /** Wait so long before the next poll; it may grow. */
    intervalSeconds: z.int().min(1).max(300),
    expiresAt: moment,
  }),
  z.object({ method: z.literal('code'), handle: token, authorizationURL: z.string(), expiresAt: moment }),
]);
/** The user has to do something in a browser. */
export type PendingAnswer = z.infer<typeof pendingAnswer>;

/**
 * Body of `POST /v1/sessions/refresh`. `attempt` is fresh and random for each refresh token (43 characters of base64url) and kept by the client
 * until it has the answer: who did not get one sends both again, and gets the same next token. With another attempt, a token that was used
 * ends the session.
 */
export const refreshRequest = z.strictObject({
  refreshToken: token,
  attempt: z.string().regex(/^[A-Za-z0-9_-]{43}$/, 'use 32 random bytes in base64url, and the same ones to ask again'),
});

/** A membership of whoever asks, as the site sees it. */
export const membershipAnswer = z.object({
  virtualOrganization: name,
  /** Name of the VOMembership in the namespace `vo-…`. */
  membership: z.string(),
  /** In force now. */
  state: z.enum(['Requested', 'Active', 'Suspended', 'Expired', 'Banned']),
  /** Whether the member can act at this site now, and if not, why and who says so. */
  usable: z.boolean(),
  reason: z.string(),
  /** Absent until ids are issued. */
  userName: z.string().optional(),
  uid: z.int().optional(),
  gid: z.int().optional(),
  groups: z.array(z.object({ name: z.string(), gid: z.int() })),
  roles: z.array(z.string()),
  expiresAt: moment.optional(),
});

/** Answer to `GET /v1/whoami`. */
export const whoamiAnswer = z.object({
  site: name,
  principal: principalSchema,
  expiresAt: moment,
  /** What the session is for; absent: for everything that one is a member of. */
  virtualOrganizations: organizationsAsked.optional(),
  memberships: z.array(membershipAnswer),
});
/** Who one is, and where one is a member. */
export type WhoamiAnswer = z.infer<typeof whoamiAnswer>;

/** Body of `POST /v1/token`. */
export const tokenRequest = z.strictObject({
  virtualOrganization: organization,
  /** The one service that the token is for, for example `xtreemfs.rennes`. */
  audience: z
    .string()
    .min(1)
    .max(255)
    .regex(/^[!-~]+$/, 'use printable ASCII without spaces'),
  /** Narrows the token: scopes of the WLCG profile with spaces between, for example `storage.read:/data`. Without it the token is not narrowed. */
  scope: z.string().min(1).max(1024).optional(),
  /** At most an hour, which is the default. */
  lifetimeSeconds: z.int().min(60).max(3600).optional(),
});

/** Answer to `POST /v1/token`: an access token of the virtual organization. */
export const tokenAnswer = z.object({ accessToken: token, tokenType: z.literal('Bearer'), expiresAt: moment });

/** Body of `POST /v1/kubernetes-credential`. */
export const kubernetesCredentialRequest = z.strictObject({ virtualOrganization: organization });

/** Answer to `POST /v1/kubernetes-credential`: what `kubectl` needs to act as the member in the namespace of the virtual organization. */
export const kubernetesCredentialAnswer = z.object({
  /** URL of the API server as clients reach it. */
  server: z.string(),
  /** PEM. */
  caBundle: z.string(),
  namespace: z.string(),
  userName: z.string(),
  token,
  /** At most an hour ahead. */
  expiresAt: moment,
});
/** What `kubectl` needs to act as the member. */
export type KubernetesCredentialAnswer = z.infer<typeof kubernetesCredentialAnswer>;

/** Numbers and words by name. */
const facts = z.record(z.string(), z.union([z.number(), z.string()]));

/** Answer to `POST /v1/virtual-organizations/NAME/selection`: nodes that would take the work at this moment. Nothing is held. */
export const selectionAnswer = z.object({
  nodes: z.array(
    z.object({
      site: z.string(),
      node: z.string(),
      attributes: facts,
      /** By the ledger of the node; `cpu` in millicores, the rest in bytes or units. */
      free: z.record(z.string(), z.number()),
      /** Measured. */
      live: z.record(z.string(), z.number()),
      /** How often the demand fits. */
      fits: z.int(),
    }),
  ),
  /** Nodes that match the static requirements and said no. */
  refusals: z.array(z.object({ reason: z.string(), nodes: z.int() })),
  /** Whether every node that could match has answered; false when enough was found, or some could not be reached. */
  isWhole: z.boolean(),
});
/** Nodes that would take the work at this moment. */
export type SelectionAnswer = z.infer<typeof selectionAnswer>;

/** Answer to `GET /v1/virtual-organizations/NAME/state`. Both are signed; nothing else here needs to be believed. */
export const stateAnswer = z.object({
  virtualOrganization: name,
  /** JWS `vo-genesis+jwt`. */
  genesis: z.string().max(16_384),
  /** JWS `vo-state+jwt`. */
  state: z.string().max(524_288),
  /** JWS `vo-freshness+jwt`: the gateway's word that the state is the newest. Absent with a final state, which never grows stale. */
  freshness: z.string().max(4096).optional(),
});

/** Body of `POST /v1/virtual-organizations/NAME/requests`: asks to join, or accepts the use of a virtual organization one is in. */
export const joinRequest = z.strictObject({
  /** `sha256:` and the hexadecimal digest of the acceptable-use text that the user has read and agreed to. */
  acceptedUse: z
    .string()
    .regex(/^sha256:[0-9a-f]{64}$/, 'use sha256: and the 64 hexadecimal digits of the SHA-256 of the text')
    .optional(),
  /** Wished handle. */
  handle: z
    .string()
    .regex(/^[a-z0-9]{1,16}$/, 'use 1 to 16 lower-case letters and digits')
    .optional(),
});

/** Answer to a request to join: 201 when the membership is new, 200 when it was there. */
export const joinAnswer = z.object({
  virtualOrganization: name,
  membership: z.string(),
  state: z.enum(['Requested', 'Active', 'Suspended', 'Expired', 'Banned']),
  /** What happens next, for a person. */
  message: z.string(),
  /** The text to accept; there only when the virtual organization has one that was not accepted yet. Ask again with its digest. */
  acceptableUse: z.object({ text: z.string(), digest: z.string() }).optional(),
});

/** Body of `POST /v1/jobs`: a job to run below the one that asks, as its member. */
export const childRequest = z.strictObject({
  /** Within the virtual organization. */
  name: name.max(52, 'use at most 52 characters'),
  /** As `spec` of a GridJob; `owner` and `parent` are filled in. */
  spec: z
    .record(z.string(), z.unknown())
    .refine((spec) => spec.owner === undefined && spec.parent === undefined, 'leave owner and parent out'),
});

/** Body of `POST /v1/jobs/JOB/control`: ends a job, or suspends it or lets it go on, with all below it. */
export const jobControlRequest = z.union(
  [z.strictObject({ signal: z.enum(['TERM', 'KILL']) }), z.strictObject({ suspend: z.boolean() })],
  { error: 'use {signal: TERM}, {signal: KILL}, {suspend: true} or {suspend: false}' },
);
/** What becomes of a job. */
export type JobControl = z.infer<typeof jobControlRequest>;

const count = z.int().min(0);

/** Where a job stands: fields of the GridJob, by the same names. */
export const jobAnswer = z.object({
  metadata: z.object({ name, uid: z.string(), creationTimestamp: moment }),
  spec: z.object({
    owner: z.string(),
    parent: z.object({ job: name, uid: z.string() }).optional(),
    tasks: z.object({ count }),
    template: z.object({ image: z.string() }),
    gridAccess: z.boolean(),
    suspend: z.boolean(),
    signal: z.object({ name: z.enum(['TERM', 'KILL']), sequence: count }).optional(),
  }),
  /** Absent until the operator has looked at it. */
  status: z
    .object({
      state: z.enum(['Waiting', 'Running', 'Suspended', 'Succeeded', 'Failed', 'Killed']).optional(),
      exitCode: z.int().optional(),
      startTime: moment.optional(),
      completionTime: moment.optional(),
      tasks: z.object({ waiting: count, starting: count, running: count, succeeded: count, failed: count }).optional(),
      conditions: z.array(
        z.object({
          type: z.string(),
          status: z.enum(['True', 'False', 'Unknown']),
          reason: z.string(),
          message: z.string(),
          lastTransitionTime: moment,
        }),
      ),
    })
    .optional(),
});
/** Where a job stands. */
export type JobAnswer = z.infer<typeof jobAnswer>;

/** Answer to `GET /v1/jobs`. */
export const jobsAnswer = z.object({ jobs: z.array(jobAnswer) });

/** Label of Secrets with invitations of sites, in the namespace of the operator; its value there is `invitation`. */
export const invitationLabel = 'xtreemos.io/gateway';

/** PEM certificates. */
const caBundle = z
  .string()
  .max(65_536)
  .regex(/^-----BEGIN CERTIFICATE-----\r?\n/, 'use PEM, starting with -----BEGIN CERTIFICATE-----');

/** Body of `POST /v1/peers`: the site of the sender asks to be a peer. */
export const peerRequest = z.strictObject({
  /** `ID.SECRET`, from the invitation. */
  invitation: z.string().regex(/^[a-z0-9]{16}\.[A-Za-z0-9_-]{43}$/, 'use the invitation as it was given'),
  site: name,
  /** `host:port` of the sender's gateway. */
  address: z.string().max(259),
  trustDomain: z.string().max(255),
  caBundle,
});

/** Answer to `POST /v1/peers`. */
export const peerAnswer = z.object({ site: name });

/** What a site tells another of itself, out of band, to be joined: the text after `xos-site-1.`, base64url of JSON. */
export const invitationText = z.strictObject({
  /** Who invites. */
  site: name,
  address: z.string().max(259),
  trustDomain: z.string().max(255),
  caBundle,
  /** Who is invited. */
  peer: name,
  /** `ID.SECRET`: as good as a password until it is used or over. */
  invitation: z.string().max(64),
  expiresAt: moment,
});
/** An invitation, read. */
export type InvitationText = z.infer<typeof invitationText>;

/** Why a gateway refused; programs compare these. */
export const errorCodes = [
  'InvalidRequest',
  'NotFound',
  'MethodNotAllowed',
  'TooLarge',
  'Unauthenticated',
  'SessionEnded',
  'LoginExpired',
  'LoginRefused',
  'Forbidden',
  'AcceptableUseRequired',
  'Conflict',
  'TooManyRequests',
  'Unavailable',
  'InternalError',
] as const;
/** Why a gateway refused. */
export type ErrorCode = (typeof errorCodes)[number];

/** Every answer of 400 and above. 429 and 503 have the header `Retry-After`. */
export const errorAnswer = z.object({
  error: z.object({
    code: z.enum(errorCodes),
    /** What is wrong and what to do, for a person. */
    message: z.string(),
    /** Which rule refused, for example `site/acceptedVirtualOrganizations`. */
    policy: z.string().optional(),
  }),
});
