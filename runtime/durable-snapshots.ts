/**
 * Snapshots of entities in the journal: a cache, keyed `snapshot/<entity>`.
 *
 * S1  A snapshot that cannot be used (damaged, of a version nobody can migrate) is as none at all.
 * S2  A snapshot that cannot be written costs a longer replay, no more.
 */
import { z } from 'zod';
import type { FrozenState } from './durable-fold.ts';
import type { LogPosition } from './fact-log.ts';
import type { Journal } from './journal.ts';
import { SNAPSHOT_KEYS } from './journal-keys.ts';
import type { Logger } from './log.ts';

export type Migrations = Readonly<Record<number, (state: FrozenState) => FrozenState>>;

export interface Snapshot {
  readonly position: LogPosition;
  /** Hash of the first fact of the log it was made from. */
  readonly origin: string;
  readonly state: FrozenState;
}

const StoredSnapshot = z.object({
  schema: z.int(),
  position: z.object({ bseq: z.int().min(1), hash: z.string(), seq: z.int().min(0) }),
  origin: z.string(),
  state: z.custom<FrozenState>(state => typeof state === 'object' && state !== null),
});

export interface SnapshotStoreOptions {
  readonly journal: Journal;
  readonly schemaVersion: number;
  readonly migrations: Migrations;
  readonly logger: Logger;
}

export class SnapshotStore {
  readonly #options: SnapshotStoreOptions;

  constructor(options: SnapshotStoreOptions) {
    this.#options = options;
  }

  /** Migrated to the present version; null where there is none to use (S1). */
  async load(entity: string): Promise<Snapshot | null> {
    const { journal, logger } = this.#options;
    try {
      const stored = await journal.get(keyOf(entity));
      if (stored === undefined) return null;
      const { schema, position, origin, state } = StoredSnapshot.parse(stored);
      return { position, origin, state: this.#migrated(schema, state) };
    } catch (error) {
      logger.warn('durable.snapshot_unusable', { entity, error });
      return null;
    }
  }

  /** Answers whether it was written (S2). */
  async keep(entity: string, snapshot: Snapshot): Promise<boolean> {
    const { journal, logger, schemaVersion } = this.#options;
    try {
      await journal.put(keyOf(entity), { schema: schemaVersion, ...snapshot });
      return true;
    } catch (error) {
      logger.warn('durable.snapshot_unwritten', { entity, error });
      return false;
    }
  }

  async remove(entity: string): Promise<void> {
    await this.#options.journal.batch([{ type: 'del', key: keyOf(entity) }]);
  }

  async removeOthers(isKept: (entity: string) => boolean): Promise<void> {
    const { journal } = this.#options;
    for await (const key of journal.keys(SNAPSHOT_KEYS)) {
      if (isKept(key.slice(SNAPSHOT_KEYS.length))) continue;
      await journal.batch([{ type: 'del', key }]);
    }
  }

  #migrated(schema: number, state: FrozenState): FrozenState {
    const { schemaVersion, migrations } = this.#options;
    if (schema > schemaVersion) throw new Error(`version ${schema} is of a newer release`);
    let migrated = state;
    for (let version = schema; version < schemaVersion; version++) {
      const migrate = migrations[version];
      if (migrate === undefined) throw new Error(`no migration from version ${version}`);
      migrated = migrate(migrated);
    }
    return migrated;
  }
}

const keyOf = (entity: string): string => `${SNAPSHOT_KEYS}${entity}`;
