/** What the parts of a FileSystem are called and where they listen. */
/** Servers, in the order in which they need each other. */
export const serverKinds = ['dir', 'mrc', 'osd'] as const;
/** One of the servers. */
export type ServerKind = (typeof serverKinds)[number];

/** Ports of RPC and of the status page: XtreemFS's own. */
export const serverPorts: Readonly<Record<ServerKind, { readonly rpc: number; readonly http: number }>> = {
  dir: { rpc: 32_638, http: 30_638 },
  mrc: { rpc: 32_636, http: 30_636 },
  osd: { rpc: 32_640, http: 30_640 },
};

/** On everything that belongs to a FileSystem: its name. */
export const fileSystemLabel = 'xtreemos.io/file-system';
/** Name in the certificates of node agents; an MRC believes what they say of users. */
export const nodeServiceName = 'node-agent.xtreemos.io';
/** Name in the certificate of the relay of volumes; an MRC believes what it says of users, and the relay lets only members say it. */
export const relayServiceName = 'relay.xtreemos.io';
/** Organizational unit in the certificate of the operator: who bears it may do everything at an MRC. */
export const administratorUnit = 'xtreemos-administrators';

/** Name of the StatefulSet, the Service and the Certificate of one kind of server. */
export function serverName(fileSystem: string, kind: ServerKind): string {
  return `${fileSystem}-${kind}`;
}

/** Name of a server's host; it stays the same wherever the pod runs. */
export function serverHost(fileSystem: string, namespace: string, kind: ServerKind, ordinal: number | string): string {
  const name = serverName(fileSystem, kind);
  return `${name}-${ordinal}.${name}.${namespace}.svc`;
}

/** Address of the first server of a kind: `host:port`. */
export function serverAddress(fileSystem: string, namespace: string, kind: ServerKind): string {
  return `${serverHost(fileSystem, namespace, kind, 0)}:${serverPorts[kind].rpc}`;
}
