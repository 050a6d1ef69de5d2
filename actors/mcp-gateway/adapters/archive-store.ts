/** A finished project's archive, put where everybody can fetch it: the object store of the bus. */
import { createReadStream } from 'node:fs';
import { CodeGodError } from '../../../protocol/errors.ts';
import type { StampedBuild } from '../../../protocol/ids.ts';
import { ARTIFACTS } from '../../../protocol/streams.ts';
import type { ArchiveReply } from '../../../protocol/workspace.ts';
import type { Bus, ObjectInfo, Objects } from '../../../runtime/bus.ts';
import { removeTree } from '../../../runtime/remove-tree.ts';
import type { Workspaces } from './workspace.ts';
import type { Archive } from './workspace-archive.ts';

/** Archives that go for one new one. */
const REMOVED_MAX = 64;

/** Opened when the first byte is wanted: a stream that nobody reads yet has nobody to fail to. */
async function* bytesOf(file: string): AsyncGenerator<Uint8Array> {
  yield* createReadStream(file);
}

/** Repeating replaces the object by an equal one. */
export async function storeArchive(
  workspaces: Pick<Workspaces, 'archive'>,
  bus: Pick<Bus, 'objects'>,
  build: StampedBuild,
): Promise<ArchiveReply> {
  const archive = await workspaces.archive(build);
  try {
    const name = `${build.build}/${archive.name}`;
    const store = bus.objects(ARTIFACTS.name);
    const { size, sha256 } = await putWithRoom(store, name, archive);
    const reference = { bucket: ARTIFACTS.name, name, sha256, size };
    return { archive: reference, head: archive.head, files: archive.files };
  } finally {
    await removeTree(archive.folder);
  }
}

/** Where the store is full, older archives go: they are copies. */
async function putWithRoom(
  store: Objects,
  name: string,
  { file, size }: Pick<Archive, 'file' | 'size'>,
): Promise<ObjectInfo> {
  const mayRemove = size < ARTIFACTS.max_bytes ? REMOVED_MAX : 0;
  for (let removed = 0; ; removed += 1) {
    try {
      return await store.put(name, bytesOf(file));
    } catch (error) {
      const isFull = error instanceof CodeGodError && error.code === 'too_large';
      if (!isFull || removed === mayRemove || !(await store.deleteOldest())) throw error;
    }
  }
}
