/**
 * Which attempts run on nodes that went silent: as long as its adverts would live, a worker may be
 * one that is only restarted and goes on from its journal; after that it is given up, so that the
 * attempt runs elsewhere within seconds.
 */
import type { NodeId } from '../../protocol/ids.ts';
import { ADVERT_TTL_MS } from '../../protocol/streams.ts';
import type { BuildContext } from './build-context.ts';

/** Keys of their deadlines, to be passed early. `heardAt`: ms since the epoch, 0 for never. */
export function lostAttempts(
  context: BuildContext,
  heardAt: (node: NodeId) => number,
  now: number,
): readonly string[] {
  return context.tasks
    .filter(({ state, lease }) => {
      if (state !== 'running' || lease === null) return false;
      return now - heardAt(lease.node) >= ADVERT_TTL_MS;
    })
    .map(({ id, attempt }) => `task:${id}.${attempt}`);
}
