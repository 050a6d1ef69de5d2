/**
 * The list of all builds, kept in the local journal. A cache: deleted, it is made again from the
 * stream of facts.
 *
 * X1: a build is in the list before its first fact is in the stream. So whatever this master has
 *     written is listed, and only what others wrote has to be looked for: after `scanned`.
 * X2: the list is of one stream. Where that was removed and made again, or is shorter than what was
 *     read of it (an older state was put back), the list is begun anew.
 * X3: of a build that nobody drives the list says `recovering`.
 * X4: a row that cannot be read is no row; its build is looked for again, with all others.
 */
import type { z } from 'zod';
import { BUILD_ENDS, BuildSummary } from '../../../protocol/build.ts';
import { toWireError } from '../../../protocol/errors.ts';
import type { BuildId } from '../../../protocol/ids.ts';
import type { StreamInfo } from '../../../runtime/bus.ts';
import { type Journal, type JournalOperation, soundEntries } from '../../../runtime/journal.ts';
import { MASTER_KEYS } from '../../../runtime/journal-keys.ts';
import type { Logger } from '../../../runtime/log.ts';

const { builds: BUILDS, scanned: SCANNED, stream: STREAM } = MASTER_KEYS;
const DIGITS = 16;
/** Builds that are listed; older ones that have ended are dropped, when so many have gathered. */
const ROWS_MAX = 10_000;
const ROWS_OVER = 1_000;
const NAMED_MAX = 16;

/** As much of a summary as the list needs; the rest is read when somebody asks for it. */
const ListedRow = BuildSummary.pick({ id: true, state: true });

interface Row {
  readonly build: BuildId;
  readonly ended: boolean;
}

export class BuildIndex {
  readonly #journal: Journal;
  readonly #log: Logger;
  readonly #rows = new Map<BuildId, Row>();
  /** Summaries on their way to the disk. */
  readonly #unwritten = new Map<BuildId, BuildSummary>();
  #scanned = 0;
  #isWritable = true;
  #queue: Promise<void> = Promise.resolve();

  private constructor(journal: Journal, log: Logger) {
    this.#journal = journal;
    this.#log = log;
  }

  static async open(journal: Journal, log: Logger): Promise<BuildIndex> {
    const index = new BuildIndex(journal, log);
    const damaged: string[] = [];
    const note = (key: string): void => void damaged.push(key);
    for await (const [, value] of soundEntries(journal, SCANNED, note)) {
      if (typeof value === 'number') index.#scanned = value;
    }
    for await (const [key, value] of soundEntries(journal, BUILDS, note)) {
      const row = ListedRow.safeParse(value);
      if (row.success) index.#remember(row.data);
      else damaged.push(key);
    }
    if (damaged.length > 0) await index.#readAnew(damaged);
    index.#drop(index.#surplus());
    return index;
  }

  /** X4 */
  async #readAnew(damaged: readonly string[]): Promise<void> {
    this.#log.warn('index.unreadable', { keys: damaged.slice(0, NAMED_MAX) });
    this.#scanned = 0;
    const gone = damaged.map(key => ({ type: 'del', key }) as const);
    await this.#journal.batch([...gone, { type: 'put', key: SCANNED, value: 0 }]);
  }

  /** What has ended, beyond the newest builds. */
  #surplus(): readonly BuildId[] {
    const older = this.page(Number.POSITIVE_INFINITY, null).slice(ROWS_MAX);
    return older.filter(build => this.hasEnded(build));
  }

  /** To be called before the list is used by who drives builds (X2). */
  async listOf({ created, last_seq }: Pick<StreamInfo, 'created' | 'last_seq'>): Promise<void> {
    await this.flush();
    const known = await this.#journal.get(STREAM);
    // What was kept before streams were named is of the one that was there then.
    const isOurs = (known ?? created) === created && this.#scanned <= last_seq;
    if (isOurs && known === created) return;
    if (!isOurs) {
      this.#log.warn('index.other_stream', { known, created, scanned: this.#scanned, last_seq });
      this.#scanned = 0;
      this.#isWritable = true;
      this.#drop(this.page(Number.POSITIVE_INFINITY, null));
    }
    this.#write([
      { type: 'put', key: SCANNED, value: this.#scanned },
      { type: 'put', key: STREAM, value: created },
    ]);
    await this.flush();
  }

  /** Up to where in the stream of facts every build is listed. */
  get scanned(): number {
    return this.#scanned;
  }

  unended(): readonly BuildId[] {
    return [...this.#rows.values()].filter(row => !row.ended).map(row => row.build);
  }

  /** False also of one that is not listed. */
  hasEnded(build: BuildId): boolean {
    return this.#rows.get(build)?.ended ?? false;
  }

  /** Ids of builds older than `before`, the newest first. */
  page(limit: number, before: BuildId | null): readonly BuildId[] {
    const below = before === null ? Number.POSITIVE_INFINITY : numberOf(before);
    return [...this.#rows.keys()]
      .filter(build => numberOf(build) < below)
      .sort((left, right) => numberOf(right) - numberOf(left))
      .slice(0, limit);
  }

  /** The summary as it was last kept (X3). */
  async get(build: BuildId): Promise<BuildSummary | null> {
    const unwritten = this.#unwritten.get(build);
    const stored = BuildSummary.safeParse(unwritten ?? (await this.#journal.get(keyOf(build))));
    if (!stored.success) return null;
    const isEnded = BUILD_ENDS.includes(stored.data.state);
    return isEnded ? stored.data : { ...stored.data, state: 'recovering' };
  }

  /** Lists a build, or its new state, as of the fact at `seq`. */
  put(summary: BuildSummary, seq: number): void {
    this.#remember(summary);
    if (this.#rows.size > ROWS_MAX + ROWS_OVER) this.#drop(this.#surplus());
    this.#unwritten.set(summary.id, summary);
    const row: JournalOperation = { type: 'put', key: keyOf(summary.id), value: summary };
    this.#write([row], seq, () => {
      if (this.#unwritten.get(summary.id) === summary) this.#unwritten.delete(summary.id);
    });
  }

  /** Waits until everything is written. */
  async flush(): Promise<void> {
    await this.#queue;
  }

  #remember({ id, state }: z.infer<typeof ListedRow>): void {
    this.#rows.set(id, { build: id, ended: BUILD_ENDS.includes(state) });
  }

  #drop(builds: readonly BuildId[]): void {
    for (const build of builds) this.#rows.delete(build);
    this.#write(builds.map(build => ({ type: 'del', key: keyOf(build) }) as const));
  }

  /**
   * One after the other. After a failure nothing is taken for scanned any more, also of what was
   * asked for before the failure was known (X1).
   */
  #write(rows: readonly JournalOperation[], seq = 0, written: () => void = () => {}): void {
    const batch = async (): Promise<void> => {
      const scanned = Math.max(seq, this.#scanned);
      const isFurther = this.#isWritable && scanned > this.#scanned;
      const operations: JournalOperation[] = [...rows];
      if (isFurther) operations.push({ type: 'put', key: SCANNED, value: scanned });
      await this.#journal.batch(operations);
      if (isFurther) this.#scanned = scanned;
      written();
    };
    this.#queue = this.#queue.then(batch).catch(error => {
      this.#isWritable = false;
      this.#log.warn('index.unwritten', { error: toWireError(error) });
    });
  }
}

const numberOf = (build: BuildId): number => Number(build.slice(1));
const keyOf = (build: BuildId): string => BUILDS + build.slice(1).padStart(DIGITS, '0');
