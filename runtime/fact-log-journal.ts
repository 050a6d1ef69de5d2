/**
 * Facts in the local journal: the log of a worker's attempts. The journal is held by one process at
 * a time, so there is one writer and no lease.
 *
 * J1  A fact is one synced write under `fact/<entity>/<bseq>`, as the very text that is hashed.
 */
import { decodeText } from '../protocol/codec.ts';
import {
  type AnyFact,
  corrupt,
  type FactForm,
  type FactLog,
  type LogPosition,
  openFact,
  type StoredFact,
  sealFact,
  sha256,
} from './fact-log.ts';
import type { Journal } from './journal.ts';
import { WORKER_KEYS } from './journal-keys.ts';

const PREFIX = WORKER_KEYS.facts;
const FORM: FactForm = { version: 1, entityField: 'entity' };
const encoder = new TextEncoder();

export interface JournalFactLog<F> extends FactLog<F> {
  /** Every entity that has facts. */
  entities(): Promise<readonly string[]>;
  /** Removes all facts of an entity that is over, in one step. */
  forget(entity: string): Promise<void>;
}

export function createJournalFactLog<F extends AnyFact>(journal: Journal): JournalFactLog<F> {
  return {
    read: (entity, after) => readFacts<F>(journal, entity, after),
    async append(entity, fact, after) {
      const { bytes, hash, bseq } = sealFact(FORM, entity, fact, after, 0);
      const key = keyOf(entity, bseq);
      const text = decodeText(bytes);
      const position = { bseq, hash, seq: bseq };
      const present = await journal.get(key);
      if (present !== undefined) {
        return present === text ? { kind: 'appended', position } : { kind: 'not_leader' };
      }
      await journal.put(key, text);
      return { kind: 'appended', position };
    },
    async entities() {
      const found = new Set<string>();
      for await (const key of journal.keys(PREFIX)) {
        found.add(key.slice(PREFIX.length, key.lastIndexOf('/')));
      }
      return [...found];
    },
    async forget(entity) {
      const keys: string[] = [];
      for await (const key of journal.keys(prefixOf(entity))) keys.push(key);
      await journal.batch(keys.map(key => ({ type: 'del', key })));
    },
  };
}

async function* readFacts<F extends AnyFact>(
  journal: Journal,
  entity: string,
  after: LogPosition,
): AsyncIterable<StoredFact<F>> {
  if (after.bseq > 0) {
    const anchor = await journal.get(keyOf(entity, after.bseq));
    if (typeof anchor !== 'string' || sha256(encoder.encode(anchor)) !== after.hash) {
      throw corrupt('is not the one that was read before', { entity, ...after });
    }
  }
  let position = after;
  for await (const [, value] of journal.entries(prefixOf(entity), keyOf(entity, after.bseq))) {
    const bytes = encoder.encode(typeof value === 'string' ? value : '');
    const stored = openFact<F>(FORM, entity, { bytes, seq: position.bseq + 1 }, position);
    yield stored;
    position = stored.position;
  }
}

const prefixOf = (entity: string): string => `${PREFIX}${entity}/`;
/** Padded, so that keys sort as numbers do. */
const keyOf = (entity: string, bseq: number): string =>
  `${prefixOf(entity)}${String(bseq).padStart(12, '0')}`;
