/**
 * What is known of the nodes, fed by a watch on their adverts.
 *
 * T1: freshness is judged by the clock of this process, which nobody puts back: when an advert was
 *     seen, not when it was written; and what it says of its past is told by that clock too.
 * T2: an advert of an older epoch is a ghost of a process that is gone, and is not taken.
 * T3: a lease that was just granted counts until its node's own advert can show it, and one that was
 *     just given back does not count, until the advert shows that.
 * T4: as long as nothing has changed the same views are answered, so that what is computed from one
 *     can be kept with it.
 */
import type { ZodType } from 'zod';
import { type GatewayId, type LeaseId, leaseNameOf, NodeId } from '../../../protocol/ids.ts';
import {
  CapacityAdvert,
  GatewayAdvert,
  isOutdated,
  type LeaseAdvert,
  RuntimeAdvert,
} from '../../../protocol/node.ts';
import { ADVERT_TTL_MS, BUCKETS } from '../../../protocol/streams.ts';
import type { AdvertKind } from '../../../protocol/subjects.ts';
import type { Bus } from '../../../runtime/bus.ts';
import type { Clock } from '../../../runtime/clock.ts';
import { type Entry, followTable } from '../../../runtime/live-table.ts';
import { lifeIn } from '../../../runtime/living-peer.ts';
import type { Logger } from '../../../runtime/log.ts';
import { sharedWith } from '../../../scheduling/advert-sharing.ts';
import type { NodeView, Seen } from '../../../scheduling/node-view.ts';
import { readAdvert } from '../../../scheduling/placement-node.ts';
import type { NodesPort } from '../ports.ts';

/** A granted lease that no advert has shown by then was not taken up. */
const GRANT_SHOWN_MS = 2 * ADVERT_TTL_MS;

/** So long a node that fell silent is still listed, and no more of them than this. */
const GONE_LISTED_MS = 24 * 3_600_000;
const GONE_MAX = 256;

/** A node of which no advert is left. */
export interface GoneNode {
  readonly node: NodeId;
  readonly seen_at: number;
}

/** All that a node has said of itself. */
export interface NodeRow {
  readonly node: NodeId;
  readonly capacity: Seen<CapacityAdvert> | null;
  readonly runtime: Seen<RuntimeAdvert> | null;
  readonly gateway: Seen<GatewayAdvert> | null;
}

interface Granted {
  readonly lease: LeaseAdvert;
  readonly at: number;
}

export interface NodeTableOptions {
  readonly bus: Bus;
  /** The steady one, which decisions are made by as well. */
  readonly clock: Clock;
  readonly log: Logger;
  /** The node this runs on: its gateway is the nearest. */
  readonly ownNode: NodeId;
}

const SCHEMAS = {
  capacity: CapacityAdvert,
  runtime: RuntimeAdvert,
  gateway: GatewayAdvert,
} as const satisfies Record<AdvertKind, ZodType>;

type Advert = CapacityAdvert | RuntimeAdvert | GatewayAdvert;

export class NodeTable implements NodesPort {
  readonly #options: NodeTableOptions;
  readonly #rows = new Map<NodeId, NodeRow>();
  readonly #granted = new Map<NodeId, readonly Granted[]>();
  /** Leases given back, by name, and when. Names of leases are unique on their node. */
  readonly #released = new Map<string, number>();
  /** In the order in which they went. */
  readonly #gone = new Map<NodeId, number>();
  /** When each worker was last heard of, also after its adverts are gone. */
  readonly #heard = new Map<NodeId, number>();
  readonly #listeners = new Set<() => void>();
  /** By node; gone where an advert or a lease has changed since (T4). */
  readonly #views = new Map<NodeId, NodeView>();
  #allViews: readonly NodeView[] | null = null;

  constructor(options: NodeTableOptions) {
    this.#options = options;
  }

  /** Watches until the signal fires; resolves when everything that was there has been seen. */
  watch(signal: AbortSignal): Promise<void> {
    const { bus, log } = this.#options;
    const table = {
      ...{ bus, log, bucket: BUCKETS.node.name },
      read: advertIn,
      changed: (key: string, advert: Entry<Advert | null>) => this.#take(key, advert),
    };
    return followTable(table, signal).known;
  }

  /** By the clock that stamps what was seen. */
  now(): number {
    return this.#options.clock.now();
  }

  rows(): readonly NodeRow[] {
    return [...this.#rows.values()].sort((left, right) => (left.node < right.node ? -1 : 1));
  }

  /** Nodes that went away, for people: nothing is decided by them. */
  gone(): readonly GoneNode[] {
    const now = this.#options.clock.now();
    return [...this.#gone]
      .filter(([, seenAt]) => now - seenAt <= GONE_LISTED_MS)
      .map(([node, seen_at]) => ({ node, seen_at }));
  }

  /** Every node that was heard of, and when last. */
  known(): readonly GoneNode[] {
    const there = this.rows().map(row => ({ node: row.node, seen_at: seenAtOf(row) }));
    return [...there, ...this.gone()];
  }

  /** Nodes that an earlier process knew: those that are not here are gone. Not this one: it starts. */
  remember(nodes: readonly GoneNode[]): void {
    const oldestFirst = [...nodes].sort((left, right) => left.seen_at - right.seen_at);
    for (const { node, seen_at } of oldestFirst) {
      if (node !== this.#options.ownNode && !this.#rows.has(node)) this.#noteGone(node, seen_at);
    }
  }

  views(): readonly NodeView[] {
    // What was granted counts for a time only.
    for (const node of this.#granted.keys()) this.#stale(node);
    this.#allViews ??= this.rows().map(row => this.#viewOf(row));
    return this.#allViews;
  }

  #viewOf({ node, capacity, runtime }: NodeRow): NodeView {
    const known = this.#views.get(node);
    if (known !== undefined) return known;
    const view = {
      node,
      capacity,
      runtime: runtime === null ? null : this.#withGranted(node, runtime),
    };
    this.#views.set(node, view);
    return view;
  }

  #stale(node: NodeId): void {
    this.#views.delete(node);
    this.#allViews = null;
  }

  gateways(): readonly GatewayId[] {
    const now = this.#options.clock.now();
    const own = (row: NodeRow): number => (row.node === this.#options.ownNode ? 0 : 1);
    return this.rows()
      .filter(({ gateway }) => gateway?.advert.state === 'ready' && isFresh(gateway, now))
      .sort((left, right) => own(left) - own(right))
      .flatMap(({ gateway }) => (gateway === null ? [] : [gateway.advert.gateway]));
  }

  gatewayLife(gateway: GatewayId): string | null {
    const row = this.rows().find(({ gateway: seen }) => seen?.advert.gateway === gateway);
    const advert = row?.gateway?.advert;
    return advert === undefined ? null : lifeIn(advert);
  }

  granted(node: NodeId, grant: LeaseAdvert): void {
    const lease = { ...grant, lease: leaseNameOf(grant.lease) };
    const others = this.#grantedOf(node).filter(({ lease: known }) => known.lease !== lease.lease);
    this.#granted.set(node, [...others, { lease, at: this.#options.clock.now() }]);
    this.#stale(node);
  }

  heardAt(node: NodeId): number {
    return this.#heard.get(node) ?? 0;
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  released(node: NodeId, lease: LeaseId): void {
    const now = this.#options.clock.now();
    const name = leaseNameOf(lease);
    this.#keepGranted(
      node,
      this.#grantedOf(node).filter(granted => granted.lease.lease !== name),
    );
    this.#stale(node);
    this.#released.set(`${node} ${name}`, now);
    for (const [old, at] of this.#released) {
      if (now - at > GRANT_SHOWN_MS) this.#released.delete(old);
    }
    this.#tell();
  }

  #grantedOf(node: NodeId): readonly Granted[] {
    return this.#granted.get(node) ?? [];
  }

  #keepGranted(node: NodeId, granted: readonly Granted[]): void {
    if (granted.length === 0) this.#granted.delete(node);
    else this.#granted.set(node, granted);
  }

  /** T3 */
  #withGranted(node: NodeId, runtime: Seen<RuntimeAdvert>): Seen<RuntimeAdvert> {
    const now = this.#options.clock.now();
    const waiting = this.#grantedOf(node).filter(
      ({ at }) => at >= runtime.seen_at && now - at < GRANT_SHOWN_MS,
    );
    this.#keepGranted(node, waiting);
    const { advert } = runtime;
    const kept = advert.leases.filter(
      ({ lease }) => !this.#released.has(`${node} ${leaseNameOf(lease)}`),
    );
    const known = new Set(kept.map(({ lease }) => leaseNameOf(lease)));
    const more = waiting.map(({ lease }) => lease).filter(({ lease }) => !known.has(lease));
    const gone = advert.leases.length - kept.length;
    const slots_used = Math.max(0, advert.slots_used - gone);
    return { ...runtime, advert: { ...advert, leases: [...kept, ...more], slots_used } };
  }

  #take(key: string, entry: Entry<Advert | null>): void {
    const about = aboutOf(key);
    if (about === null) return;
    const { node, kind } = about;
    const row = this.#rows.get(node) ?? { node, capacity: null, runtime: null, gateway: null };
    const advert = entry.is === 'there' ? entry.value : null;
    if (advert === null) {
      this.#keep({ ...row, [kind]: null });
      return;
    }
    const seen_at = this.#options.clock.now();
    const known = row[kind];
    if (known !== null && known.advert.epoch > advert.epoch) return; // T2
    if (kind === 'runtime') this.#heard.set(node, seen_at);
    if (kind === 'runtime' && known?.advert.epoch !== advert.epoch)
      this.#judgeRelease(node, advert);
    const taken =
      kind === 'runtime'
        ? readAfter(row.runtime?.advert, toldBy(advert as RuntimeAdvert, seen_at))
        : advert;
    this.#keep({ ...row, [kind]: { advert: taken, seen_at } });
  }

  /** Told once for each life of the worker. */
  #judgeRelease(node: NodeId, advert: Advert): void {
    if (!isOutdated(advert as RuntimeAdvert)) return;
    this.#options.log.warn('node.outdated', { node, hint: 'it gets no work of builds: update it' });
  }

  #keep(row: NodeRow): void {
    this.#stale(row.node);
    if (row.capacity === null && row.runtime === null && row.gateway === null) {
      const last = this.#rows.get(row.node);
      if (last !== undefined) this.#noteGone(row.node, seenAtOf(last));
      this.#rows.delete(row.node);
      this.#granted.delete(row.node);
    } else {
      this.#gone.delete(row.node);
      this.#rows.set(row.node, row);
    }
    this.#tell();
  }

  #noteGone(node: NodeId, seenAt: number): void {
    this.#gone.set(node, seenAt);
    const [oldest] = this.#gone.keys();
    if (this.#gone.size > GONE_MAX && oldest !== undefined) this.#gone.delete(oldest);
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }
}

/** When anything of it was heard last. */
export const seenAtOf = ({ capacity, runtime, gateway }: NodeRow): number =>
  Math.max(capacity?.seen_at ?? 0, runtime?.seen_at ?? 0, gateway?.seen_at ?? 0);

/** In steps, so that what has not changed stays the same from one advert to the next. */
const SKEW_STEP_MS = 30_000;

/** Moments of the node's clock as those of ours, where the two are apart (T1). */
function toldBy(advert: RuntimeAdvert, seenAt: number): RuntimeAdvert {
  const skewMs = Math.round((seenAt - advert.at) / SKEW_STEP_MS) * SKEW_STEP_MS;
  if (skewMs === 0) return advert;
  const engines = advert.engines.map(engine => ({
    ...engine,
    models: engine.models.map(model => {
      const { used_at } = model;
      return typeof used_at === 'number' ? { ...model, used_at: used_at + skewMs } : model;
    }),
  }));
  return { ...advert, engines };
}

/** With what has not changed since the advert before, and ready for decisions. */
function readAfter(before: RuntimeAdvert | undefined, fresh: RuntimeAdvert): RuntimeAdvert {
  const advert = before === undefined ? fresh : sharedWith(before, fresh);
  readAdvert(advert);
  return advert;
}

const isAdvertKind = (kind: string): kind is AdvertKind => Object.hasOwn(SCHEMAS, kind);

/** Whose advert it is and of which kind; null for a key of something else. */
function aboutOf(key: string): { readonly node: NodeId; readonly kind: AdvertKind } | null {
  const [name = '', kind = ''] = key.split('.');
  const node = NodeId.safeParse(name);
  return node.success && isAdvertKind(kind) ? { node: node.data, kind } : null;
}

function advertIn(value: unknown, key: string): Advert | null {
  const about = aboutOf(key);
  return about === null ? null : SCHEMAS[about.kind].parse(value);
}

/** Whether the advert was seen within its time to live (T1). */
export const isFresh = (seen: Seen<unknown>, now: number): boolean =>
  now - seen.seen_at <= ADVERT_TTL_MS;
