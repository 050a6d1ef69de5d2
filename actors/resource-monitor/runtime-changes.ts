/**
 * What this node's worker has in memory, as far as it makes a measurement worth while: after a load
 * or an unload the figures of the last one are wrong.
 */
import { z } from 'zod';
import type { NodeId } from '../../protocol/ids.ts';
import { BUCKETS } from '../../protocol/streams.ts';
import { advertKey } from '../../protocol/subjects.ts';
import type { Bus } from '../../runtime/bus.ts';
import type { Clock } from '../../runtime/clock.ts';
import { type Entry, followTable } from '../../runtime/live-table.ts';
import type { Logger } from '../../runtime/log.ts';

/** The memory of a card follows its processes within so long, mostly; changes meanwhile are one. */
const SETTLE_MS = 250;

/** The part of a runtime advert that is looked at. */
const Runtime = z.object({
  engines: z.array(
    z.object({
      models: z.array(
        z.object({
          name: z.string(),
          loaded: z.boolean(),
          state: z.string().optional(),
          vram_bytes: z.number().nullable(),
        }),
      ),
    }),
  ),
});

export interface RuntimeChangesOptions {
  readonly bus: Bus;
  readonly node: NodeId;
  readonly clock: Clock;
  readonly log: Logger;
  readonly changed: () => void;
}

/** Calls `changed` soon after what is loaded on the node is not what it was, until the signal fires. */
export function watchRuntime(
  { bus, node, clock, log, changed }: RuntimeChangesOptions,
  signal: AbortSignal,
): Promise<void> {
  let before: string | null = null;
  let isPending = false;
  const take = (loaded: string): void => {
    if (before !== null && before !== loaded && !isPending) {
      isPending = true;
      clock.setTimeout(() => {
        isPending = false;
        if (!signal.aborted) changed();
      }, SETTLE_MS);
    }
    before = loaded;
  };
  const table = {
    ...{ bus, log, bucket: BUCKETS.node.name },
    filter: advertKey(node, 'runtime'),
    read: loadedIn,
    // Where nothing is said of what is loaded, or nothing that can be read, the beat goes on.
    changed: (_: string, loaded: Entry<string>) => {
      if (loaded.is === 'there') take(loaded.value);
    },
  };
  return followTable(table, signal).over;
}

function loadedIn(value: unknown): string {
  const { engines } = Runtime.parse(value);
  const copies = engines.flatMap(({ models }) =>
    models
      .filter(({ loaded, state }) => loaded || (state ?? 'absent') !== 'absent')
      .map(({ name, loaded, state, vram_bytes }) => [name, loaded, state, vram_bytes]),
  );
  return JSON.stringify(copies);
}
