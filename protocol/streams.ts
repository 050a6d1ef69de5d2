/**
 * The streams, KV buckets and object stores of the system, with their exact settings. Whoever needs
 * one ensures it from here; nobody else names a stream.
 */
import { DEAD_LETTER_BYTES_MAX, DELIVERIES_MAX, MESSAGE_BYTES_MAX } from './limits.ts';
import { BUILD_SUBJECT, REPORTS_STORED_AS } from './subjects.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const MIB = 1024 * 1024;

export interface StreamDefinition {
  readonly name: string;
  readonly subjects: readonly string[];
  readonly description: string;
  readonly max_age_ms: number;
  /**
   * So that what floods one stream leaves the disk, and with it the others, alone. Not kept on a
   * server that has no room to promise so much.
   */
  readonly max_bytes: number;
  readonly max_message_bytes: number;
  readonly max_messages_per_subject?: number;
  /** What is published on `from` is stored under `to`, where it counts together. */
  readonly stored_as?: { readonly from: string; readonly to: string };
  /** New messages are refused, rather than old ones dropped, where a limit is reached. */
  readonly discard_new: boolean;
  readonly discard_new_per_subject?: boolean;
  readonly duplicate_window_ms: number;
  readonly deny_delete?: boolean;
}

export const STREAMS = {
  build: {
    name: 'CODEGOD_BUILD',
    subjects: [BUILD_SUBJECT],
    description: 'requests to build; the build id is b<sequence>',
    max_age_ms: 30 * DAY_MS,
    max_bytes: 1_024 * MIB,
    max_message_bytes: MESSAGE_BYTES_MAX,
    discard_new: true,
    duplicate_window_ms: 600_000,
  },
  event: {
    name: 'CODEGOD_EVENT',
    subjects: ['codegod.event.>'],
    description: 'the facts of every build, one writer per build',
    max_age_ms: 30 * DAY_MS,
    max_bytes: 8_192 * MIB,
    max_message_bytes: 4 * MESSAGE_BYTES_MAX,
    discard_new: true,
    duplicate_window_ms: 120_000,
    deny_delete: true,
  },
  task: {
    name: 'CODEGOD_TASK',
    subjects: ['codegod.task.>'],
    description: 'one subject per attempt, for the worker of the node in it',
    max_age_ms: 7 * DAY_MS,
    max_bytes: 1_024 * MIB,
    max_message_bytes: MESSAGE_BYTES_MAX,
    max_messages_per_subject: 1,
    discard_new: true,
    discard_new_per_subject: true,
    duplicate_window_ms: 120_000,
  },
  report: {
    name: 'CODEGOD_REPORT',
    subjects: ['codegod.report.>'],
    description: 'reports of attempts, for the master; those of a node on one subject',
    max_age_ms: 7 * DAY_MS,
    max_bytes: 512 * MIB,
    max_message_bytes: 2 * MESSAGE_BYTES_MAX,
    // A node has few attempts at once, and a report goes as soon as a master has seen it.
    max_messages_per_subject: 64,
    stored_as: REPORTS_STORED_AS,
    discard_new: true,
    discard_new_per_subject: true,
    duplicate_window_ms: 120_000,
  },
  dead: {
    name: 'CODEGOD_DEAD',
    subjects: ['codegod.dead.>'],
    description: 'messages that could not be handled, with the reason in their headers',
    max_age_ms: 90 * DAY_MS,
    max_bytes: 256 * MIB,
    max_message_bytes: DEAD_LETTER_BYTES_MAX,
    // One subject per stream and node: a flood of one's own drives out none but one's own.
    max_messages_per_subject: 128,
    discard_new: false,
    duplicate_window_ms: 120_000,
  },
} as const satisfies Record<string, StreamDefinition>;

export interface BucketDefinition {
  readonly name: string;
  readonly description: string;
  /** 0: what is put stays. */
  readonly ttl_ms: number;
  readonly storage: 'memory' | 'file';
  readonly history: number;
  readonly max_value_bytes: number;
  /** As of a stream. Where it is reached, values are refused, of keys that are there as of new ones. */
  readonly max_bytes: number;
}

/** How long a node may be silent before its adverts vanish. */
export const ADVERT_TTL_MS = 15_000;
/** How often an advert is repeated. */
export const ADVERT_EVERY_MS = 5_000;
/** A leadership lease that is not renewed ends after this. */
export const LEASE_TTL_MS = 5_000;

export const BUCKETS = {
  node: {
    name: 'codegod_node',
    description: 'what each node advertises; gone when it is silent',
    ttl_ms: ADVERT_TTL_MS,
    storage: 'memory',
    history: 1,
    // A worker with hundreds of models says what each of them needs.
    max_value_bytes: 3 * MESSAGE_BYTES_MAX,
    max_bytes: 128 * MIB,
  },
  lease: {
    name: 'codegod_lease',
    description: 'leadership; the revision is the fencing token',
    ttl_ms: LEASE_TTL_MS,
    storage: 'file',
    history: 1,
    max_value_bytes: 4_096,
    max_bytes: MIB,
  },
  policy: {
    name: 'codegod_policy',
    description: 'rules for models, laid down by people',
    ttl_ms: 0,
    storage: 'file',
    history: 1,
    max_value_bytes: 16_384,
    max_bytes: 16 * MIB,
  },
  key: {
    name: 'codegod_key',
    description: 'hashed keys of the HTTP door',
    ttl_ms: 0,
    storage: 'file',
    history: 1,
    max_value_bytes: 16_384,
    max_bytes: 16 * MIB,
  },
  server: {
    name: 'codegod_server',
    description: 'what the machine that runs the bus has verified of its server',
    ttl_ms: 0,
    // One key per life of a server, and gone with it.
    storage: 'memory',
    history: 1,
    max_value_bytes: 4_096,
    max_bytes: MIB,
  },
} as const satisfies Record<string, BucketDefinition>;

/** Copies of finished projects. Where it is full, the oldest ones make room. */
export const ARTIFACTS = {
  name: 'codegod_artifact',
  max_age_ms: 30 * DAY_MS,
  max_bytes: 8_192 * MIB,
} as const;

/** What all of them may hold together on the server's disk. */
export const FILE_BYTES_MAX = [
  ...Object.values(STREAMS),
  ...Object.values(BUCKETS).filter(({ storage }) => storage === 'file'),
  ARTIFACTS,
].reduce((sum, { max_bytes }) => sum + max_bytes, 0);

/** Durable consumers. One per role, demultiplexed by subject token. */
export const CONSUMERS = {
  master_build: { durable: 'master', ack_wait_ms: 30_000, max_deliver: DELIVERIES_MAX },
  master_report: { durable: 'master', ack_wait_ms: 30_000, max_deliver: DELIVERIES_MAX },
  worker_task: {
    ...{ ack_wait_ms: 30_000, max_deliver: DELIVERIES_MAX },
    // Longer than a task is kept, so that nothing is handed out twice for it; nodes that are gone for
    // good would otherwise use up what the server allows a stream.
    forgotten_after_ms: 8 * DAY_MS,
  },
} as const;
