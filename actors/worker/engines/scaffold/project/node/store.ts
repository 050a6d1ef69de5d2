/**
 * The store of a Node service, the same whatever it keeps.
 */

/** src/store.js */
export function storeFile(): string {
  return `/**
 * Records by collection, in memory, saved to one JSON file.
 *
 * Every change is on disk before it counts: the whole state goes to a temporary file, which then
 * takes the place of the old one. A crash leaves either the old state or the new one. All of it is
 * synchronous, so a check followed by a change cannot be interleaved with another request.
 */

import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { dirname } from 'node:path';

const EMPTY = { nextId: 1, records: new Map() };

export class Store {
  #file;
  #collections;

  /** @param {string | null} file where to keep the records; null keeps them in memory only */
  constructor(file = null) {
    this.#file = file;
    this.#collections = file === null ? new Map() : load(file);
  }

  all(collection) {
    return [...this.#collection(collection).records.values()];
  }

  get(collection, id) {
    return this.#collection(collection).records.get(id) ?? null;
  }

  /** @returns the record with its new id */
  insert(collection, fields) {
    const { nextId, records } = this.#collection(collection);
    const record = { id: nextId, ...fields };
    this.#commit(collection, { nextId: nextId + 1, records: new Map(records).set(nextId, record) });
    return record;
  }

  replace(collection, id, fields) {
    const { nextId, records } = this.#collection(collection);
    const record = { id, ...fields };
    this.#commit(collection, { nextId, records: new Map(records).set(id, record) });
    return record;
  }

  remove(collection, id) {
    const { nextId, records } = this.#collection(collection);
    const left = new Map(records);
    left.delete(id);
    this.#commit(collection, { nextId, records: left });
  }

  #collection(name) {
    return this.#collections.get(name) ?? EMPTY;
  }

  #commit(name, collection) {
    const next = new Map(this.#collections).set(name, collection);
    if (this.#file !== null) save(this.#file, next);
    this.#collections = next;
  }
}

function load(file) {
  let text;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return new Map();
    throw error;
  }
  return new Map(
    Object.entries(JSON.parse(text)).map(([name, { next_id, records }]) => [
      name,
      { nextId: next_id, records: new Map(records.map(record => [record.id, record])) },
    ]),
  );
}

function save(file, collections) {
  const state = Object.fromEntries(
    [...collections].map(([name, { nextId, records }]) => [
      name,
      { next_id: nextId, records: [...records.values()] },
    ]),
  );
  const temporary = \`\${file}.tmp\`;
  mkdirSync(dirname(file), { recursive: true });
  const descriptor = openSync(temporary, 'w');
  try {
    writeFileSync(descriptor, JSON.stringify(state));
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
  renameSync(temporary, file);
}
`;
}
