/**
 * Leases of attempts that no build waits for: granted, and the build cancelled before the fact that
 * tells of it was stored; or left on a node that was away when it was told to stop. Every advert
 * shows what its node holds, so they are found however they came about.
 */
import {
  type BuildId,
  type LeaseId,
  leaseNameOf,
  type NodeId,
  type StampedBuild,
  stampedBuild,
} from '../../protocol/ids.ts';
import type { LeaseAdvert } from '../../protocol/node.ts';
import type { NodeView } from '../../scheduling/node-view.ts';
import type { BuildContext, Withdrawal } from './build-context.ts';

/** What ends an attempt and the advert that shows it pass each other on their way for less than this. */
const STRAY_MS = 3_000;

export interface StrayLease extends Withdrawal, StampedBuild {
  /** Of a build that had the number of one of ours, on a store of the bus that is no more. */
  readonly foreign: boolean;
}

/** A build as it is open; `ended` where it is over and closed, null where nobody here knows it. */
export type Lookup = (build: BuildId) => BuildContext | 'ended' | null;

export class StrayLeases {
  /** When each was first seen, by node and id. */
  #since: ReadonlyMap<string, number> = new Map();

  /** Those that have been unwanted for 3 s. To be asked again and again, at any pace. */
  found(views: readonly NodeView[], lookup: Lookup, now: number): readonly StrayLease[] {
    const since = new Map<string, number>();
    const found: StrayLease[] = [];
    for (const { node, runtime } of views) {
      for (const advert of runtime?.advert.leases ?? []) {
        const lease = strayOf(node, advert, lookup);
        if (lease === null) continue;
        const key = `${node} ${lease.lease}`;
        const firstAt = this.#since.get(key) ?? now;
        since.set(key, firstAt);
        if (now - firstAt >= STRAY_MS) found.push(lease);
      }
    }
    this.#since = since;
    return found;
  }
}

function strayOf(node: NodeId, advert: LeaseAdvert, lookup: Lookup): StrayLease | null {
  const { build, stamp, task, attempt } = advert;
  // A node of the release before this one shows the whole id.
  const lease = leaseNameOf(advert.lease);
  if (build === undefined || task === undefined || attempt === undefined) return null;
  const known = lookup(build);
  if (known === null) return null;
  const foreign = known !== 'ended' && known.stamp !== stamp;
  const stray = { ...stampedBuild({ build, stamp }), task, attempt, node, lease, foreign };
  return known === 'ended' || !isWanted(known, stray) ? stray : null;
}

/** Whether the attempt is being placed, is there, or is being withdrawn. */
function isWanted(context: BuildContext, { task, attempt, lease, stamp }: StrayLease): boolean {
  // A worker of the release before this one does not tell the stamp.
  const isOurs = stamp === undefined || stamp === context.stamp;
  const holds = (held: { readonly lease: LeaseId } | null): boolean =>
    held !== null && leaseNameOf(held.lease) === lease;
  return (
    context.withdrawals.some(holds) ||
    context.tasks.some(
      ({ id, state, attempt: current, lease: held }) =>
        holds(held) || (isOurs && id === task && state === 'placing' && current === attempt),
    )
  );
}
