/** A finished project's archive, put where everybody can fetch it: the object store of the bus. */
import { createReadStream } from 'node:fs';

import type { StampedBuild } from '../../../protocol/ids.ts';
import { ARTIFACTS } from '../../../protocol/streams.ts';
import type { ArchiveReply } from '../../../protocol/workspace.ts';
import type { Bus } from '../../../runtime/bus.ts';
import { removeTree } from './remove-tree.ts';
import type { Workspaces } from './workspace.ts';

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
    const { size, sha256 } = await store.put(name, bytesOf(archive.file));
    const reference = { bucket: ARTIFACTS.name, name, sha256, size };
    return { archive: reference, head: archive.head, files: archive.files };
  } finally {
    await removeTree(archive.folder);
  }
}
