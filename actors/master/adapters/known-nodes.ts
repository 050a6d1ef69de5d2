/**
 * Which nodes there have been and when each was last heard of, kept in the journal, so that one that
 * went away is still known to be missing after a restart of the master. For people only.
 */
import { z } from 'zod';
import { toWireError } from '../../../protocol/errors.ts';
import { NodeId } from '../../../protocol/ids.ts';
import { EpochMs } from '../../../protocol/text.ts';
import type { Clock } from '../../../runtime/clock.ts';
import type { Journal } from '../../../runtime/journal.ts';
import { MASTER_KEYS } from '../../../runtime/journal-keys.ts';
import type { Logger } from '../../../runtime/log.ts';
import type { GoneNode, NodeTable } from './node-table.ts';

const KEY = `${MASTER_KEYS.nodes}known`;
const REMEMBERED_MAX = 512;
/** Adverts come every few seconds; who is there changes seldom. */
const WRITTEN_EVERY_MS = 60_000;

const KnownNodes = z.array(z.object({ node: NodeId, seen_at: EpochMs })).max(REMEMBERED_MAX);

export interface KnownNodesOptions {
  readonly nodes: NodeTable;
  readonly journal: Journal;
  readonly clock: Clock;
  readonly log: Logger;
}

export class NodeMemory {
  readonly #options: KnownNodesOptions;
  readonly #leave: () => void;
  #names = '';
  #writtenMs = 0;
  #writing: Promise<void> = Promise.resolve();

  private constructor(options: KnownNodesOptions) {
    this.#options = options;
    this.#leave = options.nodes.onChange(() => this.#look());
  }

  /** What was known is in the table, and what becomes known is kept. */
  static async start(options: KnownNodesOptions): Promise<NodeMemory> {
    options.nodes.remember(await read(options));
    const memory = new NodeMemory(options);
    memory.#look();
    return memory;
  }

  async stop(): Promise<void> {
    this.#leave();
    this.#write();
    await this.#writing;
  }

  #look(): void {
    const names = this.#options.nodes.known().map(({ node }) => node);
    const joined = names.sort().join(' ');
    const isOld = this.#options.clock.monotonic() - this.#writtenMs >= WRITTEN_EVERY_MS;
    if (joined === this.#names && !isOld) return;
    this.#names = joined;
    this.#write();
  }

  #write(): void {
    const { journal, clock, log, nodes } = this.#options;
    this.#writtenMs = clock.monotonic();
    const latest = [...nodes.known()].sort((left, right) => right.seen_at - left.seen_at);
    const value = latest.slice(0, REMEMBERED_MAX);
    const written = this.#writing.then(() => journal.put(KEY, value));
    this.#writing = written.catch((error: unknown) => {
      log.warn('nodes.unwritten', { error: toWireError(error) }); // Written with the next change.
    });
  }
}

async function read({ journal, log }: KnownNodesOptions): Promise<readonly GoneNode[]> {
  try {
    const known = KnownNodes.safeParse(await journal.get(KEY));
    return known.success ? known.data : [];
  } catch (error) {
    log.warn('nodes.unreadable', { error: toWireError(error) }); // As if none had been known.
    return [];
  }
}
