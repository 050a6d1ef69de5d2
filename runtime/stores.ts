/**
 * Brings the streams, buckets and object stores of `protocol/streams.ts` into being. Every actor
 * calls this at its start: whoever comes first creates them, all others find them as they should be.
 */
import {
  ARTIFACTS,
  BUCKETS,
  type BucketDefinition,
  STREAMS,
  type StreamDefinition,
} from '../protocol/streams.ts';
import type { Bus, StreamConfig } from './bus.ts';

/** @throws CodeGodError where the server did not take the configuration. */
export async function ensureStores(bus: Bus): Promise<void> {
  for (const stream of Object.values(STREAMS)) await bus.streams.ensure(streamConfig(stream));
  for (const bucket of Object.values(BUCKETS)) await ensureBucket(bus, bucket);
  const { name, max_age_ms, max_bytes } = ARTIFACTS;
  await bus.objects(name).ensure({ storage: 'file', ttl_ms: max_age_ms, max_bytes });
}

function streamConfig(stream: StreamDefinition): StreamConfig {
  return {
    name: stream.name,
    subjects: stream.subjects,
    description: stream.description,
    storage: 'file',
    discard: stream.discard_new ? 'new' : 'old',
    max_age_ms: stream.max_age_ms,
    max_bytes: stream.max_bytes,
    max_message_bytes: stream.max_message_bytes,
    duplicate_window_ms: stream.duplicate_window_ms,
    ...(stream.max_messages_per_subject === undefined
      ? {}
      : { max_msgs_per_subject: stream.max_messages_per_subject }),
    ...(stream.stored_as === undefined ? {} : { stored_as: stream.stored_as }),
    ...(stream.discard_new_per_subject === true ? { discard_new_per_subject: true } : {}),
    ...(stream.deny_delete === true ? { deny_delete: true } : {}),
  };
}

async function ensureBucket(bus: Bus, bucket: BucketDefinition): Promise<void> {
  await bus.kv(bucket.name).ensure({
    ...(bucket.ttl_ms === 0 ? {} : { ttl_ms: bucket.ttl_ms }),
    storage: bucket.storage,
    history: bucket.history,
    max_value_bytes: bucket.max_value_bytes,
    max_bytes: bucket.max_bytes,
  });
}
