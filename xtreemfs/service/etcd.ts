import { readFileSync } from 'node:fs';
import { Etcd3 } from 'etcd3';

/** How to reach an etcd. */
export interface EtcdOptions {
  /** URLs of members, for example `https://etcd-0:2379`. */
  readonly endpoints: readonly string[];
  /** PEM files: trust anchors, and the certificate to show. */
  readonly tls?: { readonly caPath: string; readonly certificatePath: string; readonly privateKeyPath: string };
  /** Default 5,000 ms. */
  readonly timeoutMs?: number;
}

/** Largest answer that is taken: records of a log are read several at a time. */
const answerBytesMax = 64 * 2 ** 20;

/** A client whose calls end in time. */
export function etcdClient(options: EtcdOptions): Etcd3 {
  const timeoutMs = options.timeoutMs ?? 5_000;
  return new Etcd3({
    hosts: [...options.endpoints],
    dialTimeout: timeoutMs,
    defaultCallOptions: () => ({ deadline: Date.now() + timeoutMs }),
    grpcOptions: { 'grpc.max_receive_message_length': answerBytesMax },
    ...(options.tls === undefined
      ? {}
      : {
          credentials: {
            rootCertificate: readFileSync(options.tls.caPath),
            certChain: readFileSync(options.tls.certificatePath),
            privateKey: readFileSync(options.tls.privateKeyPath),
          },
        }),
  });
}
