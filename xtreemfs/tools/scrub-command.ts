import { describeError, TerminalError } from '#common/errors.ts';
import { ServiceType } from '#proto/generated/xtreemfs/dir.ts';
import { ReplFlag, SystemVFcntl, type FileCredentials, type Replica } from '#proto/generated/xtreemfs/global-types.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import { type Caller, MetadataClient, serviceUser } from '../client/metadata.ts';
import type { Services } from '../client/services.ts';
import { ServerList } from '../rpc/retry.ts';
import { dirOption, modernized, servicesOf } from './admin-commands.ts';
import { type Command, type CommandIo, parseTool, toolHelp, type ToolOption } from './command.ts';
import { listServices, rootUser } from './volume-admin.ts';

const pageSize = 256;
const typeBits = 0o170_000;
const directoryBits = 0o040_000;
const regularBits = 0o100_000;

const scrubOptions: Readonly<Record<string, ToolOption>> = {
  dir: dirOption.dir,
  thrs: { about: 'Objects of a file that are checked at once (default 10)', value: 'N' },
  help: dirOption.help,
};

/** `xtfs_scrub VOLUME` */
export const scrubCommand: Command = {
  names: ['scrub', 'xtfs_scrub'],
  usage: 'xtfs_scrub -dir HOST[:PORT] [-thrs N] VOLUME|UUID|all',
  about: 'Reads every object of the files of a volume at its OSDs and names files that are damaged or cannot be read.',
  run: async (argv, io) => {
    const given = parseTool(scrubOptions, modernized(argv, scrubOptions));
    if (given.has('help')) {
      io.print(toolHelp(scrubCommand, scrubOptions));
      return 0;
    }
    const wanted = given.word(0, 'VOLUME');
    const parallel = given.number('thrs', 10, 1);
    const services = servicesOf(given);
    try {
      const volumes = (await listServices(services, ServiceType.VOLUME)).filter(
        ({ name, uuid }) => wanted === 'all' || wanted === name || wanted === uuid,
      );
      if (volumes.length === 0) throw new TerminalError(`the DIR knows no volume ${wanted}: use its name or UUID`);
      let problems = 0;
      for (const { name } of volumes) problems += await scrubVolume(services, name, parallel, io);
      return problems === 0 ? 0 : 1;
    } finally {
      services.close();
    }
  },
};

/** @returns how many files and folders are damaged or could not be read. */
async function scrubVolume(services: Services, volume: string, parallel: number, io: CommandIo): Promise<number> {
  const metadata = new MetadataClient(services, volume, await services.findVolume(volume, io.signal));
  const caller: Caller = { user: rootUser, signal: io.signal };
  const found = { files: 0, objects: 0, problems: 0 };
  const scrubOne = async (path: string, bytes: number): Promise<void> => {
    found.files++;
    const { creds } = await metadata.open(caller, path, SystemVFcntl.O_RDONLY, { mode: 0 });
    const damaged: string[] = [];
    for (const replica of replicasToRead(creds)) {
      const count = Math.ceil(bytes / (replica.stripingPolicy.stripeSize * 1024));
      for (let first = 0; first < count; first += parallel) {
        const objects = Array.from({ length: Math.min(parallel, count - first) }, (_, i) => first + i);
        const results = await Promise.all(
          objects.map((object) => checkObject(metadata, caller, creds, replica, object)),
        );
        damaged.push(...results.filter((result) => result !== undefined));
        found.objects += objects.length;
      }
    }
    if (damaged.length === 0) return;
    found.problems++;
    io.print(`${volume}/${path}: ${damaged.length} objects cannot be read, first ${damaged[0]}`);
  };
  const folders = [''];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    for await (const { path, mode, bytes } of entriesOf(metadata, caller, folder)) {
      if ((mode & typeBits) === directoryBits) folders.push(path);
      if ((mode & typeBits) !== regularBits) continue;
      try {
        await scrubOne(path, bytes);
      } catch (error) {
        if (io.signal.aborted) throw error;
        found.problems++;
        io.print(`${volume}/${path}: not checked: ${describeError(error)}`);
      }
    }
  }
  io.print(`${volume}: ${found.files} files, ${found.objects} objects, ${found.problems} files with problems`);
  return found.problems;
}

async function* entriesOf(
  metadata: MetadataClient,
  caller: Caller,
  folder: string,
): AsyncGenerator<{ path: string; mode: number; bytes: number }> {
  for (let seen = 0; ; seen += pageSize) {
    const page = await metadata.readdir(caller, folder, seen, pageSize, false);
    for (const { name, stbuf } of page) {
      if (name === '.' || name === '..' || stbuf === undefined) continue;
      yield { path: folder === '' ? name : `${folder}/${name}`, mode: stbuf.mode, bytes: stbuf.size };
    }
    if (page.length < pageSize) return;
  }
}

/** One for files that their primary reads; else all that hold everything: reading from a partial one would fill it. */
function replicasToRead({ xlocs }: FileCredentials): readonly Replica[] {
  if (xlocs.replicaUpdatePolicy !== 'ronly') return xlocs.replicas.slice(0, 1);
  return xlocs.replicas.filter(({ replicationFlags }) => (replicationFlags & ReplFlag.IS_COMPLETE) !== 0);
}

/** @returns what is wrong with the object. */
async function checkObject(
  metadata: MetadataClient,
  { signal }: Caller,
  creds: FileCredentials,
  replica: Replica,
  object: number,
): Promise<string | undefined> {
  const uuid = replica.osdUuids[object % replica.osdUuids.length] ?? '';
  const request = { fileCredentials: creds, fileId: creds.xcap.fileId, objectNumber: object, objectVersion: 0 };
  try {
    const options = { user: serviceUser, signal };
    const { response } = await metadata.services.call(
      new ServerList([uuid]),
      osdProcedures.checkObject,
      request,
      options,
    );
    return response.invalidChecksumOnOsd ? `object ${object} at ${uuid}: damaged` : undefined;
  } catch (error) {
    if (signal?.aborted === true) throw error;
    return `object ${object} at ${uuid}: ${describeError(error)}`;
  }
}
