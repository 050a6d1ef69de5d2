/**
 * Facts in a JetStream stream, one subject tree per build: the log of the master.
 *
 * S1  An append names the sequence of the last fact it knows: two writers cannot both succeed.
 * S2  A writer that was overtaken under a newer lease is told `not_leader`, never corrected. Facts of
 *     an older lease, or of its own late append, only put it `behind`.
 * S3  The hash of a fact stands in a header beside it, so that even the last one, which no other
 *     fact vouches for yet, cannot be altered unnoticed.
 */

import { JSON_TYPE } from '../protocol/codec.ts';
import { envelopeHeaders } from '../protocol/envelope.ts';
import { CodeGodError } from '../protocol/errors.ts';
import { FACT_VERSION, type FactBody } from '../protocol/fact.ts';
import { BuildId } from '../protocol/ids.ts';
import { STREAMS } from '../protocol/streams.ts';
import { eventSubject, eventsOf } from '../protocol/subjects.ts';
import type { Bus, StoredMessage } from './bus.ts';
import {
  corrupt,
  type FactAppended,
  type FactForm,
  type FactLog,
  type LogPosition,
  openFact,
  type SealedFact,
  type StoredFact,
  sealFact,
  sha256,
} from './fact-log.ts';

const STREAM = STREAMS.event.name;
const FORM: FactForm = { version: FACT_VERSION, entityField: 'build' };
const HASH_HEADER = 'cg-fact-sha256';
/** Leaves room for headers under the stream's limit, which counts them. */
const FACT_BYTES_MAX = STREAMS.event.max_message_bytes - 4_096;

export interface StreamFactLogOptions {
  readonly bus: Bus;
  /** `/node/<id>/actor/master`. */
  readonly source: string;
  /** Revision of the lease under which facts are written now; 0 without leadership. */
  readonly fence: () => number;
}

export function createStreamFactLog(options: StreamFactLogOptions): FactLog<FactBody> {
  const { bus, source, fence } = options;
  return {
    read: (entity, after) => readFacts(bus, BuildId.parse(entity), after),
    async append(entity, fact, after) {
      const build = BuildId.parse(entity);
      const ownFence = fence();
      const sealed = sealFact(FORM, build, fact, after, ownFence);
      if (sealed.bytes.length > FACT_BYTES_MAX) {
        const size = `${sealed.bytes.length} bytes, at most ${FACT_BYTES_MAX}`;
        throw new CodeGodError('too_large', `a fact ${fact.type} of ${build} has ${size}`);
      }
      const id = `${build}:${sealed.bseq}:${sealed.hash.slice(0, 32)}`;
      const result = await bus.streams.append(eventSubject(build, fact.type), sealed.bytes, {
        id,
        headers: {
          ...envelopeHeaders({
            id,
            type: fact.type,
            source,
            time: fact.at,
            contentType: JSON_TYPE,
          }),
          [HASH_HEADER]: sealed.hash,
        },
        expect: { last_subject_sequence: after.seq, filter_subject: eventsOf(build) },
      });
      switch (result.kind) {
        case 'appended':
          return { kind: 'appended', position: positionOf(sealed, result.seq) };
        case 'wrong_last_sequence':
          return await afterConflict(bus, build, sealed, after, ownFence);
        case 'stream_full':
          throw new CodeGodError('disk_full', `the stream ${STREAM} is full`);
        case 'subject_full':
          throw new CodeGodError('internal', `${STREAM} is configured with a limit per subject`);
      }
    },
  };
}

/** Somebody appended first: ourselves without hearing of it, a fenced predecessor, or a successor. */
async function afterConflict(
  bus: Bus,
  build: BuildId,
  sealed: SealedFact,
  after: LogPosition,
  ownFence: number,
): Promise<FactAppended> {
  const unknown: StoredFact<FactBody>[] = [];
  for await (const fact of readFacts(bus, build, after)) unknown.push(fact);
  const [first] = unknown;
  if (first === undefined) {
    throw corrupt('is refused though nothing else is stored', { entity: build, bseq: sealed.bseq });
  }
  const isOurs = first.position.hash === sealed.hash && unknown.length === 1;
  if (isOurs) return { kind: 'appended', position: first.position };
  // A lease's revision is one writer's: under our own fence only a late append of ours can stand.
  const overtaken = unknown.some(({ fence }) => fence > ownFence || ownFence === 0);
  return overtaken ? { kind: 'not_leader' } : { kind: 'behind' };
}

async function* readFacts(
  bus: Bus,
  build: BuildId,
  after: LogPosition,
): AsyncIterable<StoredFact<FactBody>> {
  if (after.bseq > 0 && (await isLast(bus, build, after))) return;
  let position = after;
  let anchored = after.bseq === 0;
  const range = { filter: eventsOf(build), from_seq: Math.max(1, after.seq) };
  for await (const message of bus.streams.read(STREAM, range)) {
    const hash = verifiedHash(message, build, position);
    if (!anchored) {
      anchored = message.seq === after.seq && hash === after.hash;
      if (!anchored) break;
      continue;
    }
    const stored = openFact<FactBody>(
      FORM,
      build,
      { bytes: message.body, seq: message.seq },
      position,
    );
    yield stored;
    position = stored.position;
  }
  if (!anchored) throw corrupt('is not the one that was read before', { entity: build, ...after });
}

/** One question, where reading takes several: most builds are opened from a snapshot of their end. */
async function isLast(bus: Bus, build: BuildId, position: LogPosition): Promise<boolean> {
  const message = await bus.streams.last(STREAM, eventsOf(build));
  return message?.seq === position.seq && verifiedHash(message, build, position) === position.hash;
}

/** The hash of a message's bytes, when it is the one that was stored with it (S3). */
function verifiedHash(message: StoredMessage, build: BuildId, after: LogPosition): string {
  const hash = sha256(message.body);
  const written = message.headers[HASH_HEADER];
  if (written === undefined || written === hash) return hash;
  throw corrupt('is altered', { entity: build, bseq: after.bseq + 1, seq: message.seq });
}

const positionOf = (sealed: SealedFact, seq: number): LogPosition => ({
  bseq: sealed.bseq,
  hash: sealed.hash,
  seq,
});
