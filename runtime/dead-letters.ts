/**
 * What happens to a message that cannot be handled: it is kept in CODEGOD_DEAD, with the reason in
 * its headers, and only then taken off its stream.
 *
 * D1  One message is one dead letter: its id is made of the stream, the sequence and what it holds,
 *     which nobody can know who might want to use the id up before.
 * D2  While the dead letter cannot be stored, the message stays where it is.
 * D3  A message whose last permitted delivery failed is a dead letter, also when the process died
 *     during that delivery (the bus says `deliveries_exhausted` then).
 * D4  It has a bound, and so have those of one node: a flood of one's own drives out one's own.
 */
import { createHash } from 'node:crypto';
import { CodeGodError, toWireError, type WireError } from '../protocol/errors.ts';
import { deadSubject, nodeOnSubject } from '../protocol/subjects.ts';
import type {
  Bus,
  ConsumeOptions,
  Delivery,
  MessageHeaders,
  Outcome,
  StoredMessage,
  Subscription,
} from './bus.ts';

export const DEAD_HEADER = {
  code: 'cg-dead-code',
  reason: 'cg-dead-reason',
  subject: 'cg-dead-subject',
  stream: 'cg-dead-stream',
  sequence: 'cg-dead-seq',
} as const;

const RETRY_MS = 1_000;
/** With our own headers a letter stays below DEAD_LETTER_BYTES_MAX. */
const BODY_BYTES_MAX = 16_384;
const HEADERS_LENGTH_MAX = 4_096;
const SUBJECT_LENGTH_MAX = 1_024;

export interface ParsedConsumer<T> {
  parse(delivery: Delivery): T;
  handler(value: T, delivery: Delivery): Promise<Outcome>;
  onBad?(error: CodeGodError, delivery: Delivery): Promise<Outcome>;
}

/** A consumer of parsed messages; see `Messenger.consume`. */
export async function consumeParsed<T>(
  bus: Bus,
  stream: string,
  options: ConsumeOptions,
  consumer: ParsedConsumer<T>,
): Promise<Subscription> {
  const bury = async (message: StoredMessage, reason: WireError): Promise<Outcome> => {
    try {
      await appendDeadLetter(bus, stream, message, reason);
      return { kind: 'reject', reason: reason.message };
    } catch (error) {
      return { kind: 'retry', delay_ms: RETRY_MS, reason: toWireError(error).message };
    }
  };
  const stopListening = bus.status(event => {
    if (event.type !== 'deliveries_exhausted' || event.stream !== stream) return;
    void buryExhausted(bus, stream, event.seq, options.filter).catch(() => {
      // The message is still in its stream, and `deliveries_exhausted` has been logged (D2).
    });
  });
  const subscription = await bus.consume(stream, options, async delivery => {
    let value: T;
    try {
      value = consumer.parse(delivery);
    } catch (error) {
      if (!(error instanceof CodeGodError)) throw error;
      if (consumer.onBad !== undefined) return consumer.onBad(error, delivery);
      return bury(delivery, toWireError(error));
    }
    const isLast = options.max_deliver > 0 && delivery.deliveries >= options.max_deliver;
    // Before the last delivery a thrown error is the bus's to tell and to try again.
    if (!isLast) return consumer.handler(value, delivery);
    const outcome = await outcomeOf(() => consumer.handler(value, delivery));
    if (outcome.kind !== 'retry') return outcome;
    const message = `gave up after ${delivery.deliveries} deliveries: ${outcome.reason}`;
    return bury(delivery, { code: 'internal', message });
  });
  return {
    async stop() {
      stopListening();
      await subscription.stop();
    },
  };
}

/** What a handler throws, as the outcome that the bus would make of it. */
async function outcomeOf(handle: () => Promise<Outcome>): Promise<Outcome> {
  try {
    return await handle();
  } catch (error) {
    const { code, message } = toWireError(error);
    return { kind: 'retry', delay_ms: RETRY_MS, reason: `${code}: ${message}` };
  }
}

async function buryExhausted(
  bus: Bus,
  stream: string,
  sequence: number,
  filter: string,
): Promise<void> {
  const range = { filter, from_seq: sequence, to_seq: sequence };
  for await (const message of bus.streams.read(stream, range)) {
    const reason = 'the process died during each of its deliveries';
    await appendDeadLetter(bus, stream, message, { code: 'internal', message: reason });
  }
}

export async function appendDeadLetter(
  bus: Bus,
  stream: string,
  message: StoredMessage,
  reason: WireError,
): Promise<void> {
  // The head tells what it was; the message itself may have been as large as somebody liked.
  const subject = deadSubject(stream, nodeOnSubject(message.subject));
  const digest = createHash('sha256').update(message.body).digest('hex').slice(0, 32);
  await bus.streams.append(subject, message.body.subarray(0, BODY_BYTES_MAX), {
    id: `dead:${stream}:${message.seq}:${digest}`,
    headers: {
      ...keptHeaders(message.headers),
      [DEAD_HEADER.code]: reason.code,
      [DEAD_HEADER.reason]: reason.message.replace(/\s+/g, ' ').slice(0, 1_024),
      [DEAD_HEADER.subject]: message.subject.slice(0, SUBJECT_LENGTH_MAX),
      [DEAD_HEADER.stream]: stream,
      [DEAD_HEADER.sequence]: String(message.seq),
    },
  });
}

/**
 * Without the headers that tell the server what to do: they were for the first stream. Those that do
 * not fit are left out.
 */
function keptHeaders(headers: MessageHeaders): MessageHeaders {
  let length = 0;
  return Object.fromEntries(
    Object.entries(headers).filter(([name, value]) => {
      if (name.toLowerCase().startsWith('nats-')) return false;
      const longer = length + Buffer.byteLength(name) + Buffer.byteLength(value);
      if (longer > HEADERS_LENGTH_MAX) return false;
      length = longer;
      return true;
    }),
  );
}
