import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import { type FileSystem, fileSystemSchemes } from '#crds/file-system.ts';
import type { Stored } from '#runtime/types.ts';
import { Services } from '#xtreemfs/client/services.ts';
import { TlsMaterial } from '#xtreemfs/rpc/tls.ts';
import { parseAddress } from '#xtreemfs/rpc/address.ts';
import path from 'node:path';
import type { Installation } from './installation.ts';
import { serverAddress } from './names.ts';
import { XtreemfsInstallation } from './xtreemfs-installation.ts';

/** Gives the installation behind a FileSystem. */
export interface Installations {
  of(fileSystem: Stored<FileSystem>): Installation;
  /** Closes the connections to one that is gone. */
  forget(uid: string): void;
}

/** Longer than a restart of a server would hold up everything else that the controller does. */
const connectTimeoutMs = 3_000;
const requestTimeoutMs = 15_000;

/** Connections to the installations of this site, one set each, made at first use. */
export class SiteInstallations implements Installations {
  private readonly tlsFolder: string;
  private readonly deps: { readonly clock: Clock; readonly logger: Logger };
  private readonly open = new Map<string, { readonly services: Services; readonly installation: Installation }>();
  private tls: TlsMaterial | undefined;

  /** @param tlsFolder - has tls.crt, tls.key and ca.crt of the operator; read when the first installation wants TLS. */
  constructor(tlsFolder: string, deps: { readonly clock: Clock; readonly logger: Logger }) {
    this.tlsFolder = tlsFolder;
    this.deps = deps;
  }

  /** @throws {InvalidInputError} when TLS is wanted and the files can not be read. */
  of({ metadata, spec }: Stored<FileSystem>): Installation {
    const known = this.open.get(metadata.uid);
    if (known !== undefined) return known.installation;
    const { name, namespace = '' } = metadata;
    const scheme = fileSystemSchemes[spec.tls];
    const services = new Services({
      ...this.deps,
      dirs: [parseAddress('dir', serverAddress(name, namespace, 'dir'))],
      scheme,
      ...(scheme === 'pbrpc' ? {} : { tls: (this.tls ??= this.material()) }),
      triesMax: 1,
      connectTimeoutMs,
      requestTimeoutMs,
    });
    const installation = new XtreemfsInstallation(services, serverAddress(name, namespace, 'mrc'));
    this.open.set(metadata.uid, { services, installation });
    return installation;
  }

  forget(uid: string): void {
    this.open.get(uid)?.services.close();
    this.open.delete(uid);
  }

  private material(): TlsMaterial {
    const file = (name: string): string => path.join(this.tlsFolder, name);
    const files = { certificatePath: file('tls.crt'), privateKeyPath: file('tls.key'), trustedPath: file('ca.crt') };
    return new TlsMaterial(files, this.deps);
  }
}
