/** What the tasks of a job with `gridAccess` are given, so that they can submit children at the gateway and see to them: constants alone. */

/** The token is for the gateway and nothing else: no API server takes it. */
export const taskTokenAudience = 'xtreemos-gateway';
/** How long one token is good, seconds; the kubelet brings the next in time. It takes no less. */
export const taskTokenSeconds = 600;
/** Name of the volume with the token and the authority of the gateway. */
export const gatewayVolume = 'xtreemos-gateway';
/** Where tasks see it. */
export const gatewayFolder = '/var/run/xtreemos/gateway';
/** Files in it. */
export const gatewayFiles = { token: 'token', ca: 'ca.crt' } as const;
/** Annotation of the pod with the authority of the gateway, PEM, from which the file is made. */
export const gatewayAuthorityAnnotation = 'xtreemos.io/gateway-authority';
/** Label of pods that the network lets through to the gateway; only the operator writes it. */
export const gridAccessLabel = 'xtreemos.io/grid-access';
/** Variables that tell a task where the gateway is and which files it takes. */
export const gatewayVariables = {
  address: 'XTREEMOS_GATEWAY_ADDRESS',
  caFile: 'XTREEMOS_GATEWAY_CA_FILE',
  tokenFile: 'XTREEMOS_GATEWAY_TOKEN_FILE',
  virtualOrganization: 'XTREEMOS_VIRTUAL_ORGANIZATION',
} as const;

/** Label of a job that was submitted from within another: uid of the first of its tree. To find them by; `spec.parent` is what counts. */
export const jobTreeLabel = 'xtreemos.io/job-tree';
/** Annotations of the first job of a tree begin so that stand for jobs about to be made in it: until when, and its name. Written by the gateway alone. */
export const jobRoomPrefix = 'job-room.xtreemos.io/';
/** Bounds of what is submitted from within jobs. */
export const jobTreeBounds = {
  /** Jobs above one another below the first. */
  depthMax: 8,
  /** Jobs below the first, those that have ended included while they are there. */
  jobsMax: 512,
} as const;
