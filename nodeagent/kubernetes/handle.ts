/** What a volume is called in PersistentVolumes: by uids, which are never given twice. */
export interface VolumeHandle {
  readonly fileSystemUid: string;
  readonly volumeUid: string;
}

const uid = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}';
const pattern = new RegExp(`^(${uid})/(${uid})$`);

/** Reads `<uid of the FileSystem>/<uid of the Volume>`; undefined for anything else. */
export function parseHandle(text: string): VolumeHandle | undefined {
  const [, fileSystemUid, volumeUid] = pattern.exec(text) ?? [];
  return fileSystemUid === undefined || volumeUid === undefined ? undefined : { fileSystemUid, volumeUid };
}
