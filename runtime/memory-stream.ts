/**
 * One stream in memory, with JetStream's rules for what is stored, refused and forgotten.
 *
 * The order of the rules is that of the NATS adapter: the expected sequence (unless the last message
 * is this very one), a repeated id, then the limits.
 */
import { CodeGodError } from '../protocol/errors.ts';
import type { MessageHeaders, StoredMessage, StreamConfig, StreamInfo } from './bus.ts';
import { HEADER, type StoreAck } from './bus-wire.ts';
import type { Clock, TimerHandle } from './clock.ts';
import { storedSubject, subjectMatches } from './memory-subject.ts';

const DUPLICATE_WINDOW_MS = 120_000;
/** Node fires a timer of more than 2^31 - 1 ms at once; nothing is lost by looking earlier. */
const TIMER_MS_MAX = 2 ** 31 - 1;

interface Entry extends StoredMessage {
  readonly storedMs: number;
  readonly expiresMs: number;
  readonly marker: boolean;
}

export class MemoryStream {
  config: StreamConfig;
  readonly #created: string;
  readonly #clock: Clock;
  readonly #changed: () => void;
  /** In order of sequence. */
  #entries: Entry[] = [];
  #lastSeq = 0;
  readonly #ids = new Map<string, { readonly seq: number; readonly storedMs: number }>();
  #timer: TimerHandle | null = null;

  constructor(config: StreamConfig, clock: Clock, changed: () => void) {
    this.config = config;
    this.#clock = clock;
    this.#created = new Date(clock.now()).toISOString();
    this.#changed = changed;
  }

  takes(subject: string): boolean {
    return this.config.subjects.some(filter => subjectMatches(filter, subject));
  }

  /** Throws `too_large`. */
  append(published: string, body: Uint8Array, headers: MessageHeaders): StoreAck {
    const { stored_as } = this.config;
    const subject = stored_as === undefined ? published : storedSubject(stored_as, published);
    const id = headers[HEADER.messageId];
    const unexpected = this.#unexpected(subject, headers);
    if (unexpected !== null) return unexpected;
    const duplicate = id === undefined ? undefined : this.#seenSeq(id);
    if (duplicate !== undefined) return { kind: 'appended', seq: duplicate, duplicate: true };
    const refusal = this.#refusal(subject, body);
    if (refusal !== null) return refusal;
    if (headers[HEADER.rollup] === 'sub') {
      this.#entries = this.#entries.filter(entry => entry.subject !== subject);
    }
    const seq = this.#store(subject, body, headers, this.config.max_age_ms, false);
    if (id !== undefined) this.#ids.set(id, { seq, storedMs: this.#clock.now() });
    this.#makeRoom(subject);
    this.#changed();
    return { kind: 'appended', seq, duplicate: false };
  }

  /** The first message at or after a sequence. */
  next(filter: string, fromSeq: number): StoredMessage | null {
    return (
      this.#entries.find(entry => entry.seq >= fromSeq && subjectMatches(filter, entry.subject)) ??
      null
    );
  }

  at(seq: number): StoredMessage | null {
    return this.#entries.find(entry => entry.seq === seq) ?? null;
  }

  last(filter: string): StoredMessage | null {
    return this.#entries.findLast(entry => subjectMatches(filter, entry.subject)) ?? null;
  }

  lastPerSubject(filter: string): readonly StoredMessage[] {
    const last = new Map<string, Entry>();
    for (const entry of this.#entries) {
      if (subjectMatches(filter, entry.subject)) last.set(entry.subject, entry);
    }
    return [...last.values()].sort((a, b) => a.seq - b.seq);
  }

  purge(filter: string): number {
    const before = this.#entries.length;
    this.#entries = this.#entries.filter(entry => !subjectMatches(filter, entry.subject));
    return before - this.#entries.length;
  }

  remove(seq: number): boolean {
    const before = this.#entries.length;
    this.#entries = this.#entries.filter(entry => entry.seq !== seq);
    return this.#entries.length < before;
  }

  info(): StreamInfo {
    return {
      name: this.config.name,
      created: this.#created,
      first_seq: this.#entries[0]?.seq ?? this.#lastSeq + 1,
      last_seq: this.#lastSeq,
      messages: this.#entries.length,
      bytes: this.#bytes(),
    };
  }

  /** The stream is gone: no more timers. */
  drop(): void {
    if (this.#timer !== null) this.#clock.clearTimeout(this.#timer);
    this.#entries = [];
  }

  #seenSeq(id: string): number | undefined {
    const seen = this.#ids.get(id);
    if (seen === undefined) return undefined;
    const windowMs = this.config.duplicate_window_ms ?? DUPLICATE_WINDOW_MS;
    if (this.#clock.now() - seen.storedMs < windowMs) return seen.seq;
    this.#ids.delete(id);
    return undefined;
  }

  #unexpected(subject: string, headers: MessageHeaders): StoreAck | null {
    const expected = headers[HEADER.expectedSubjectSequence];
    if (expected === undefined) return null;
    const last = this.last(headers[HEADER.expectedSubjectFilter] ?? subject);
    if ((last?.seq ?? 0) === Number(expected)) return null;
    const id = headers[HEADER.messageId];
    return last !== null && id !== undefined && last.headers[HEADER.messageId] === id
      ? { kind: 'appended', seq: last.seq, duplicate: true }
      : { kind: 'wrong_last_sequence' };
  }

  #refusal(subject: string, body: Uint8Array): StoreAck | null {
    const { config } = this;
    if (config.max_message_bytes !== undefined && body.length > config.max_message_bytes) {
      throw new CodeGodError('too_large', `${config.name} takes ${config.max_message_bytes} bytes`);
    }
    if (config.discard === 'old') return null;
    const { max_msgs_per_subject: perSubject, max_bytes } = config;
    if (config.discard_new_per_subject && perSubject !== undefined) {
      const count = this.#entries.filter(entry => entry.subject === subject).length;
      if (count >= perSubject) return { kind: 'subject_full' };
    }
    if (max_bytes !== undefined && this.#bytes() + body.length > max_bytes) {
      return { kind: 'stream_full' };
    }
    return null;
  }

  #store(
    subject: string,
    body: Uint8Array,
    headers: MessageHeaders,
    ageMs: number | undefined,
    marker: boolean,
  ): number {
    const storedMs = this.#clock.now();
    this.#lastSeq += 1;
    this.#entries.push({
      subject,
      body,
      headers,
      seq: this.#lastSeq,
      time: new Date(storedMs).toISOString(),
      storedMs,
      expiresMs: ageMs === undefined ? Number.POSITIVE_INFINITY : storedMs + ageMs,
      marker,
    });
    this.#arm();
    return this.#lastSeq;
  }

  /** Forgets the oldest of a subject, then the oldest of all, until the limits hold. */
  #makeRoom(subject: string): void {
    const { max_msgs_per_subject: perSubject, max_bytes } = this.config;
    if (perSubject !== undefined) {
      const same = this.#entries.filter(entry => entry.subject === subject);
      const excess = new Set(same.slice(0, Math.max(0, same.length - perSubject)));
      if (excess.size > 0) this.#entries = this.#entries.filter(entry => !excess.has(entry));
    }
    if (max_bytes === undefined) return;
    while (this.#entries.length > 1 && this.#bytes() > max_bytes) this.#entries.shift();
  }

  #bytes(): number {
    return this.#entries.reduce((sum, entry) => sum + entry.body.length, 0);
  }

  /** Nobody looks: what gets too old goes when somebody does again. */
  rest(): void {
    if (this.#timer !== null) this.#clock.clearTimeout(this.#timer);
    this.#timer = null;
  }

  rouse(): void {
    if (this.#timer === null && this.#entries.length > 0) this.#expire();
  }

  #arm(): void {
    if (this.#timer !== null) this.#clock.clearTimeout(this.#timer);
    this.#timer = null;
    const nextMs = Math.min(...this.#entries.map(entry => entry.expiresMs));
    if (nextMs === Number.POSITIVE_INFINITY) return;
    const waitMs = Math.min(TIMER_MS_MAX, nextMs - this.#clock.now());
    this.#timer = this.#clock.setTimeout(() => this.#expire(), waitMs);
  }

  /** Removes what is too old, leaving a marker where it was the last of its subject. */
  #expire(): void {
    this.#timer = null;
    const nowMs = this.#clock.now();
    const old = this.#entries.filter(entry => entry.expiresMs <= nowMs);
    this.#entries = this.#entries.filter(entry => entry.expiresMs > nowMs);
    const { marker_ttl_ms } = this.config;
    if (marker_ttl_ms !== undefined) {
      const headers = { [HEADER.markerReason]: 'MaxAge' };
      for (const { subject, body, marker } of old) {
        if (marker || this.last(subject) !== null) continue;
        this.#store(subject, body.subarray(0, 0), headers, marker_ttl_ms, true);
      }
    }
    this.#arm();
    this.#changed();
  }
}
