/**
 * The local journal: a key-value store on disk whose every write is synced before it is answered.
 * The only importer of `level`. Values are msgpack with shared structures: the shapes of objects are
 * stored once, under a key of their own, and the values refer to them.
 *
 * J1  Once a write is answered it survives a crash and a power cut, and a batch is all or nothing.
 * J2  Writes take effect in the order of the calls. Writes that wait for a running one are joined
 *     into one batch, so that many of them cost one sync.
 * J3  A shape is stored in the same batch as the first value that refers to it.
 * J4  Every value carries a CRC-32: a flipped bit is `log_corrupt`, never another value. What LevelDB
 *     itself drops while it opens, a damaged record of its write-ahead log, is told in our log.
 * J5  One process at a time; a second one gets `conflict`.
 * J6  Only its owner enters its folder (0700) or reads its files (0600), also where an earlier
 *     release made them. LevelDB opens them without close-on-exec: runtime/spawn.ts keeps them out
 *     of every program that is started.
 * J7  A write that failed may have left half a record, and LevelDB would put the next ones behind it,
 *     answer them, and drop them when it opens. So nothing is written behind it: the database is
 *     opened anew first, as soon as there is room.
 * J8  It keeps nothing under a name that was not declared when it was opened: what nobody declared
 *     nobody would ever remove (journal-keys.ts).
 */
import { chmod, mkdir, open, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { Level } from 'level';
import { Packr } from 'msgpackr';
import { CodeGodError, toWireError } from '../protocol/errors.ts';
import { systemClock } from './clock.ts';
import type { Logger } from './log.ts';

export type JournalOperation =
  | { readonly type: 'put'; readonly key: string; readonly value: unknown }
  | { readonly type: 'del'; readonly key: string };

export interface Journal {
  /** @throws CodeGodError `log_corrupt` where the stored bytes are damaged; so do the others. */
  get(key: string): Promise<unknown>;
  /** @throws CodeGodError `disk_full`, `internal` where the disk refused. */
  put(key: string, value: unknown): Promise<void>;
  /** One synced batch: all of it or nothing. */
  batch(operations: readonly JournalOperation[]): Promise<void>;
  /** Every entry whose key starts with the prefix (and is greater than `after`), by key. */
  entries(prefix: string, after?: string): AsyncIterable<readonly [key: string, value: unknown]>;
  /** The keys alone, also of values that are damaged. */
  keys(prefix: string, after?: string): AsyncIterable<string>;
  close(): Promise<void>;
}

/** How long a lock may be the last breath of a process that has just been killed. */
const LOCK_WAIT_MS = 5_000;
const LOCK_POLL_MS = 100;
/** Sorts before every key of a user, which never starts with a control character. */
const STRUCTURES_KEY = '\u0001structures';
const STRUCTURES_MAX = 256;
const CHECKSUM_BYTES = 4;

/** What a journal needs of the thing that keeps its bytes. */
interface ByteStore {
  get(key: string): Promise<Uint8Array | undefined>;
  write(operations: readonly ByteOperation[]): Promise<void>;
  range(from: string, below: string): AsyncIterable<readonly [string, Uint8Array]>;
  names(from: string, below: string): AsyncIterable<string>;
  close(): Promise<void>;
}

type ByteOperation =
  | { readonly type: 'put'; readonly key: string; readonly value: Uint8Array }
  | { readonly type: 'del'; readonly key: string };

/**
 * Opens the journal of a directory, which is created where missing. `names`: with what its keys
 * begin; absent: whatever comes (J8).
 * @throws CodeGodError `conflict` where another process holds it, `log_corrupt`, `disk_full`.
 */
export async function openJournal(
  directory: string,
  logger?: Logger,
  names?: Readonly<Record<string, string>>,
): Promise<Journal> {
  const store = await openLevel(directory);
  await makePrivate(directory);
  const dropped = await droppedWhileOpening(directory);
  if (dropped.length > 0) logger?.error('journal.records_dropped', { directory, dropped });
  return await openPacked(store, directory, names);
}

/** J6. What LevelDB makes later gets the usual mode, in a folder that nobody else enters. */
async function makePrivate(directory: string): Promise<void> {
  await chmod(directory, 0o700);
  for (const name of await readdir(directory)) {
    try {
      await chmod(join(directory, name), 0o600);
    } catch (error) {
      // LevelDB removes what it needs no more at any time.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
}

/** What LevelDB noted about damage it went over, in its own words (J4). */
async function droppedWhileOpening(directory: string): Promise<readonly string[]> {
  // Without the note there is nothing to tell; the journal itself is open and good.
  const note = await readFile(join(directory, 'LOG'), 'utf8').catch(() => '');
  return note.split('\n').filter(line => /corruption|dropping/i.test(line));
}

/** As `entries`, of all values that are whole: each that is damaged is told, and the rest comes. */
export async function* soundEntries(
  journal: Pick<Journal, 'keys' | 'get'>,
  prefix: string,
  damaged: (key: string) => void,
): AsyncIterable<readonly [key: string, value: unknown]> {
  for await (const key of journal.keys(prefix)) {
    let value: unknown;
    try {
      value = await journal.get(key);
    } catch (error) {
      if (toWireError(error).code !== 'log_corrupt') throw error;
      damaged(key);
      continue;
    }
    yield [key, value];
  }
}

/** A journal that forgets with its process. For tests and simulations; `names` as above. */
export async function memoryJournal(names?: Readonly<Record<string, string>>): Promise<Journal> {
  return await openPacked(memoryStore(), 'memory', names);
}

async function openPacked(
  store: ByteStore,
  where: string,
  names: Readonly<Record<string, string>> = { any: '' },
): Promise<Journal> {
  const stored = await store.get(STRUCTURES_KEY);
  const structures = stored === undefined ? [] : unpackStructures(stored, where);
  return new PackedJournal(store, where, structures, Object.values(names));
}

type Structures = string[][];

function unpackStructures(stored: Uint8Array, where: string): Structures {
  const bytes = checked(stored, STRUCTURES_KEY, where);
  return new Packr({ useRecords: false }).unpack(bytes) as Structures;
}

interface WaitingWrite {
  readonly operations: readonly JournalOperation[];
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

class PackedJournal implements Journal {
  readonly #store: ByteStore;
  readonly #where: string;
  readonly #packr: Packr;
  readonly #names: readonly string[];
  #structures: Structures;
  #structuresChanged = false;
  #waiting: WaitingWrite[] = [];
  #writing: Promise<void> | null = null;
  #closed = false;

  constructor(store: ByteStore, where: string, structures: Structures, names: readonly string[]) {
    this.#store = store;
    this.#where = where;
    this.#names = names;
    this.#structures = structures;
    this.#packr = new Packr({
      maxSharedStructures: STRUCTURES_MAX,
      getStructures: () => this.#structures,
      saveStructures: next => {
        this.#structures = next.map(keys => [...(keys as string[])]);
        this.#structuresChanged = true;
        return true;
      },
      shouldShareStructure: keys => keys.every(key => /^[a-zA-Z][a-zA-Z0-9_]*$/.test(key)),
    });
  }

  async get(key: string): Promise<unknown> {
    const stored = await this.#store.get(key);
    return stored === undefined ? undefined : this.#unpack(key, stored);
  }

  put(key: string, value: unknown): Promise<void> {
    return this.batch([{ type: 'put', key, value }]);
  }

  batch(operations: readonly JournalOperation[]): Promise<void> {
    if (this.#closed) return Promise.reject(closedError(this.#where));
    const odd = operations.find(
      ({ type, key }) => type === 'put' && !this.#names.some(name => key.startsWith(name)),
    );
    if (odd !== undefined) return Promise.reject(undeclared(odd.key, this.#where)); // J8
    return new Promise((resolve, reject) => {
      this.#waiting.push({ operations, resolve, reject });
      this.#writing ??= this.#writeWaiting();
    });
  }

  async *entries(prefix: string, after = ''): AsyncIterable<readonly [string, unknown]> {
    const from = after > prefix ? after : prefix;
    for await (const [key, stored] of this.#store.range(from, `${prefix}\u{10ffff}`)) {
      if (key !== after) yield [key, this.#unpack(key, stored)];
    }
  }

  async *keys(prefix: string, after = ''): AsyncIterable<string> {
    const from = after > prefix ? after : prefix;
    for await (const key of this.#store.names(from, `${prefix}\u{10ffff}`)) {
      if (key !== after) yield key;
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#writing;
    await this.#store.close();
  }

  /** Writes everything that waits, in order, until nothing waits (J2). Never rejects. */
  async #writeWaiting(): Promise<void> {
    while (this.#waiting.length > 0) {
      const writes = this.#waiting;
      this.#waiting = [];
      try {
        await this.#writeJoined(writes.flatMap(write => write.operations));
        for (const write of writes) write.resolve();
      } catch (error) {
        for (const write of writes) write.reject(error);
      }
    }
    this.#writing = null;
  }

  async #writeJoined(operations: readonly JournalOperation[]): Promise<void> {
    const packed: ByteOperation[] = operations.map(operation =>
      operation.type === 'del'
        ? operation
        : { type: 'put', key: operation.key, value: this.#pack(operation.value) },
    );
    const structuresChanged = this.#structuresChanged;
    if (structuresChanged) {
      const bytes = new Packr({ useRecords: false }).pack(this.#structures);
      packed.push({ type: 'put', key: STRUCTURES_KEY, value: withChecksum(bytes) });
    }
    await this.#store.write(packed);
    if (structuresChanged) this.#structuresChanged = false;
  }

  #pack(value: unknown): Uint8Array {
    return withChecksum(this.#packr.pack(value));
  }

  #unpack(key: string, stored: Uint8Array): unknown {
    return this.#packr.unpack(checked(stored, key, this.#where));
  }
}

function withChecksum(bytes: Uint8Array): Uint8Array {
  const stored = Buffer.allocUnsafe(CHECKSUM_BYTES + bytes.length);
  stored.writeUInt32LE(crc32(bytes), 0);
  stored.set(bytes, CHECKSUM_BYTES);
  return stored;
}

/** The value's bytes, when they are the ones that were written (J4). */
function checked(stored: Uint8Array, key: string, where: string): Uint8Array {
  const bytes = stored.subarray(CHECKSUM_BYTES);
  const view = Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength);
  if (stored.length > CHECKSUM_BYTES && view.readUInt32LE(0) === crc32(bytes)) return bytes;
  const name = JSON.stringify(key);
  throw new CodeGodError('log_corrupt', `the value of ${name} in the journal ${where} is damaged`, {
    hint: `check the disk; move ${where} away to begin with an empty journal`,
  });
}

const closedError = (where: string): CodeGodError =>
  new CodeGodError('cancelled', `the journal ${where} is closed`);

const undeclared = (key: string, where: string): CodeGodError =>
  new CodeGodError('internal', `the journal ${where} keeps nothing under ${JSON.stringify(key)}`);

type Database = Level<string, Uint8Array>;

async function openLevel(directory: string): Promise<ByteStore> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const database: Database = new Level(directory, { keyEncoding: 'utf8', valueEncoding: 'view' });
  for (let waitedMs = 0; ; waitedMs += LOCK_POLL_MS) {
    try {
      await database.open();
      return new LevelStore(database, directory);
    } catch (error) {
      const locked = levelCode(error) === 'LEVEL_LOCKED';
      if (locked && waitedMs < LOCK_WAIT_MS) {
        await systemClock.sleep(LOCK_POLL_MS);
        continue;
      }
      // The directory is there: a file that is missing inside it was lost.
      const isTorn = /no such file/i.test(rootMessage(error));
      throw isTorn ? damaged(error, directory) : levelError(error, directory);
    }
  }
}

class LevelStore implements ByteStore {
  readonly #database: Database;
  readonly #directory: string;
  #isTorn = false;

  constructor(database: Database, directory: string) {
    this.#database = database;
    this.#directory = directory;
  }

  get(key: string): Promise<Uint8Array | undefined> {
    return this.#translated(() => this.#database.get(key));
  }

  /** The journal calls this one at a time. */
  write(operations: readonly ByteOperation[]): Promise<void> {
    return this.#translated(async () => {
      if (this.#isTorn) await this.#openAnew();
      this.#isTorn = true;
      await this.#database.batch([...operations], { sync: true });
      this.#isTorn = false;
    });
  }

  range(from: string, below: string): AsyncIterable<readonly [string, Uint8Array]> {
    return read(this.#database.iterator({ gte: from, lt: below }), this.#directory);
  }

  names(from: string, below: string): AsyncIterable<string> {
    return read(this.#database.keys({ gte: from, lt: below }), this.#directory);
  }

  close(): Promise<void> {
    return this.#translated(() => this.#database.close());
  }

  /** J7. Not before there is room, since one that cannot be opened cannot be read either. */
  async #openAnew(): Promise<void> {
    if (this.#database.status === 'open') {
      await requireRoom(this.#directory);
      await this.#database.close();
    }
    await this.#database.open();
  }

  async #translated<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw levelError(error, this.#directory);
    }
  }
}

/** What LevelDB writes while it opens, several times over. */
const OPENING_BYTES = 256 * 1024;

/** Throws the error of the disk where there is no room. */
async function requireRoom(directory: string): Promise<void> {
  const file = join(directory, 'room.tmp');
  try {
    const handle = await open(file, 'w', 0o600);
    try {
      await handle.writeFile(Buffer.alloc(OPENING_BYTES, 1));
      await handle.sync();
    } finally {
      await handle.close();
    }
  } finally {
    await rm(file, { force: true });
  }
}

async function* read<T>(found: AsyncIterable<T>, directory: string): AsyncIterable<T> {
  try {
    yield* found;
  } catch (error) {
    throw error instanceof CodeGodError ? error : levelError(error, directory);
  }
}

/** The code of an error of `level`; that of its cause where opening failed. */
function levelCode(error: unknown): string | null {
  if (!(error instanceof Error)) return null;
  if (error.cause !== undefined) return levelCode(error.cause);
  return 'code' in error && typeof error.code === 'string' ? error.code : null;
}

function levelError(error: unknown, directory: string): CodeGodError {
  const message = rootMessage(error);
  switch (levelCode(error)) {
    case 'LEVEL_LOCKED':
      return new CodeGodError('conflict', `the journal ${directory} is used by another process`, {
        cause: error,
        hint: 'the same actor runs already with the same state directory: stop one of them',
      });
    case 'LEVEL_CORRUPTION':
      return damaged(error, directory);
    case 'LEVEL_DATABASE_NOT_OPEN':
      return closedError(directory);
    default: {
      const full = /no space left|ENOSPC|disk quota/i.test(message);
      return new CodeGodError(full ? 'disk_full' : 'internal', `journal ${directory}: ${message}`, {
        cause: error,
      });
    }
  }
}

const damaged = (error: unknown, directory: string): CodeGodError =>
  new CodeGodError('log_corrupt', `the journal ${directory} is damaged: ${rootMessage(error)}`, {
    cause: error,
    hint: `check the disk; move ${directory} away to begin with an empty journal`,
  });

function rootMessage(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? rootMessage(error.cause) : error.message;
}

function memoryStore(): ByteStore {
  const values = new Map<string, Uint8Array>();
  return {
    get: async key => values.get(key),
    write: async operations => {
      for (const operation of operations) {
        if (operation.type === 'put') values.set(operation.key, operation.value);
        else values.delete(operation.key);
      }
    },
    async *range(from, below) {
      const entries = [...values].filter(([key]) => key >= from && key < below);
      yield* entries.sort(([left], [right]) => (left < right ? -1 : 1));
    },
    async *names(from, below) {
      yield* [...values.keys()].filter(key => key >= from && key < below).sort();
    },
    close: async () => {},
  };
}
