/**
 * With what the keys of each actor's journal begin. Whoever keeps something under a new name declares
 * it here, since a journal takes nothing else, and says in docs/retention.md how it ends.
 */

/** Of every durable host: the snapshots of its entities. */
export const SNAPSHOT_KEYS = 'snapshot/';

export const MASTER_KEYS = {
  builds: 'build/',
  scanned: 'scanned',
  stream: 'stream',
  /** Which nodes there have been. */
  nodes: 'nodes/',
  snapshots: SNAPSHOT_KEYS,
} as const;

export const GATEWAY_KEYS = {
  calls: 'call.',
  checks: 'check.',
  /** Who wrote a project. */
  authors: 'ours.',
  /** Since when the bus does not know a build. */
  unknown: 'unknown.',
} as const;

export const WORKER_KEYS = {
  facts: 'fact/',
  snapshots: SNAPSHOT_KEYS,
  closed: 'closed/',
  cancelled: 'cancelled/',
  /** Since when an attempt cannot be read. */
  unreadable: 'unreadable/',
  leases: 'lease/',
  measures: 'measure/',
  engines: 'engine/',
  models: 'model/',
  probes: 'probe/',
  drain: 'drain',
} as const;
