/**
 * Which attempts run on nodes that went silent. A worker that is only restarted comes back within
 * its supervisor's pause and goes on from its journal; one that stays away this long is given up.
 */
import type { NodeId } from '../../protocol/ids.ts';
import { ADVERT_TTL_MS } from '../../protocol/streams.ts';
import type { BuildContext } from './build-context.ts';

export const NODE_LOST_MS = ADVERT_TTL_MS;

/** Keys of their deadlines, to be passed early. `heardAt`: ms since the epoch, 0 for never. */
export function lostAttempts(
  context: BuildContext,
  heardAt: (node: NodeId) => number,
  now: number,
): readonly string[] {
  return context.tasks
    .filter(({ state, lease }) => {
      if (state !== 'running' || lease === null) return false;
      return now - heardAt(lease.node) > NODE_LOST_MS;
    })
    .map(({ id, attempt }) => `task:${id}.${attempt}`);
}
