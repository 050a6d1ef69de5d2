/**
 * The part of the bus suite about streams.
 */
import assert from 'node:assert/strict';
import type { Bus, StreamConfig } from './bus.ts';
import { type Behaviour, behaviour, bytes, text, until } from './bus-suite.ts';

export const streamOf = (unique: string, more: Partial<StreamConfig> = {}): StreamConfig => ({
  name: unique.toUpperCase(),
  subjects: [`${unique}.>`],
  storage: 'file',
  discard: 'old',
  ...more,
});

export async function readAll(bus: Bus, stream: string, filter: string): Promise<string[]> {
  const got: string[] = [];
  for await (const message of bus.streams.read(stream, { filter, from_seq: 1 })) {
    got.push(text(message.body));
  }
  return got;
}

export const STREAM_BEHAVIOURS: readonly Behaviour[] = [
  behaviour('what is appended is read back in order, and reading ends', async scene => {
    const bus = await scene.connect();
    const { unique } = scene;
    const stream = unique.toUpperCase();
    await bus.streams.ensure(streamOf(unique));
    assert.deepEqual(await readAll(bus, stream, `${unique}.>`), []);
    for (let i = 1; i <= 150; i += 1) {
      const subject = `${unique}.${i % 2 === 0 ? 'even' : 'odd'}`;
      const result = await bus.streams.append(subject, bytes(String(i)), {
        headers: { N: `${i}` },
      });
      assert.deepEqual(result, { kind: 'appended', seq: i, duplicate: false });
    }
    const evens = Array.from({ length: 75 }, (_, i) => String(2 * i + 2));
    assert.deepEqual(await readAll(bus, stream, `${unique}.even`), evens);
    const part: number[] = [];
    const range = { filter: `${unique}.>`, from_seq: 140, to_seq: 143 };
    for await (const message of bus.streams.read(stream, range)) {
      part.push(message.seq);
      assert.equal(message.headers['N'], String(message.seq));
      assert(Math.abs(Date.parse(message.time) - Date.now()) < 60_000, message.time);
    }
    assert.deepEqual(part, [140, 141, 142, 143]);
    assert.equal((await bus.streams.last(stream, `${unique}.odd`))?.seq, 149);
    assert.equal(await bus.streams.last(stream, `${unique}.none`), null);
    assert.equal((await bus.streams.info(stream))?.messages, 150);
    assert.equal(await bus.streams.purge(stream, `${unique}.odd`), 75);
    assert.equal((await bus.streams.info(stream))?.messages, 75);
  }),

  behaviour('ensuring a stream twice changes it, and what is stored stays', async scene => {
    const bus = await scene.connect();
    const { unique } = scene;
    await bus.streams.ensure(streamOf(unique));
    await bus.streams.append(`${unique}.a`, bytes('kept'));
    await bus.streams.ensure(streamOf(unique, { max_message_bytes: 300, max_age_ms: 3_600_000 }));
    assert.deepEqual(await readAll(bus, unique.toUpperCase(), `${unique}.>`), ['kept']);
    const append = bus.streams.append(`${unique}.a`, new Uint8Array(400));
    await assert.rejects(append, { code: 'too_large' });
  }),

  behaviour('a missing stream is told as such', async scene => {
    const bus = await scene.connect();
    const { unique } = scene;
    assert.equal(await bus.streams.info(unique), null);
    await assert.rejects(readAll(bus, unique, '>'), { code: 'not_found' });
    await assert.rejects(bus.streams.last(unique, 'x'), { code: 'not_found' });
    const appending = bus.streams.append(`${unique}.x`, bytes(''), { timeout_ms: 300 });
    await assert.rejects(appending, { code: 'no_responders' });
    const consuming = bus.consume(
      unique,
      {
        durable: 'worker',
        filter: `${unique}.>`,
        ack_wait_ms: 5_000,
        max_deliver: -1,
        max_ack_pending: 1,
        concurrency: 1,
      },
      async () => ({ kind: 'done' }),
    );
    await assert.rejects(consuming, { code: 'not_found' });
  }),

  behaviour('the same id is stored once', async scene => {
    const bus = await scene.connect();
    const { unique } = scene;
    await bus.streams.ensure(streamOf(unique));
    const append = () => bus.streams.append(`${unique}.a`, bytes('x'), { id: `${unique}-1` });
    assert.deepEqual(await append(), { kind: 'appended', seq: 1, duplicate: false });
    assert.deepEqual(await append(), { kind: 'appended', seq: 1, duplicate: true });
  }),

  behaviour('a repeated append with an expectation is a duplicate, not a conflict', async scene => {
    const bus = await scene.connect();
    const { unique } = scene;
    await bus.streams.ensure(streamOf(unique));
    const append = () =>
      bus.streams.append(`${unique}.a`, bytes('x'), {
        id: `${unique}-1`,
        expect: { last_subject_sequence: 0, filter_subject: `${unique}.>` },
      });
    await append();
    assert.deepEqual(await append(), { kind: 'appended', seq: 1, duplicate: true });
  }),

  behaviour('only one of two writers that expect the same last message wins', async scene => {
    const bus = await scene.connect();
    const { unique } = scene;
    await bus.streams.ensure(streamOf(unique));
    const append = (tail: string, last: number) =>
      bus.streams.append(`${unique}.b1.${tail}`, bytes('x'), {
        expect: { last_subject_sequence: last, filter_subject: `${unique}.b1.>` },
      });
    assert.equal((await append('started', 0)).kind, 'appended');
    await bus.streams.append(`${unique}.b2.started`, bytes('another build'));
    const results = await Promise.all([append('planned', 1), append('failed', 1)]);
    assert.deepEqual(results.map(result => result.kind).sort(), [
      'appended',
      'wrong_last_sequence',
    ]);
    assert.equal((await append('done', 1)).kind, 'wrong_last_sequence');
  }),

  behaviour('one subject holds one message where that is configured', async scene => {
    const bus = await scene.connect();
    const { unique } = scene;
    const one = { max_msgs_per_subject: 1, discard: 'new', discard_new_per_subject: true } as const;
    await bus.streams.ensure(streamOf(unique, one));
    assert.equal((await bus.streams.append(`${unique}.1`, bytes('a'))).kind, 'appended');
    assert.deepEqual(await bus.streams.append(`${unique}.1`, bytes('b')), { kind: 'subject_full' });
    assert.equal((await bus.streams.append(`${unique}.2`, bytes('c'))).kind, 'appended');
    assert.deepEqual(await readAll(bus, unique.toUpperCase(), `${unique}.>`), ['a', 'c']);
  }),

  behaviour(
    'what is stored under one subject counts together, and goes one by one',
    async scene => {
      const bus = await scene.connect();
      const { unique } = scene;
      const stream = unique.toUpperCase();
      const config = streamOf(unique, {
        ...{ max_msgs_per_subject: 2, discard: 'new', discard_new_per_subject: true },
        stored_as: { from: `${unique}.*.*`, to: `${unique}.{{wildcard(1)}}` },
      });
      await bus.streams.ensure(config);
      await bus.streams.ensure(config);
      const append = (tail: string) => bus.streams.append(`${unique}.${tail}`, bytes(tail));
      assert.equal((await append('a.1')).kind, 'appended');
      assert.equal((await append('a.2')).kind, 'appended');
      assert.deepEqual(await append('a.3'), { kind: 'subject_full' });
      assert.equal((await append('b.1')).kind, 'appended');
      assert.equal((await append('a')).kind, 'subject_full');
      assert.deepEqual(await readAll(bus, stream, `${unique}.a`), ['a.1', 'a.2']);
      assert.equal(await bus.streams.remove(stream, 1), true);
      assert.equal(await bus.streams.remove(stream, 1), false);
      assert.equal(await bus.streams.remove(stream, 99), false);
      assert.equal((await append('a.3')).kind, 'appended');
      assert.deepEqual(await readAll(bus, stream, '>'), ['a.2', 'b.1', 'a.3']);
    },
  ),

  behaviour('asking on the subject of a stream stores the message', async scene => {
    const bus = await scene.connect();
    const { unique } = scene;
    await bus.streams.ensure(streamOf(unique));
    const reply = await bus.ask(`${unique}.a`, bytes('prompt'), { timeout_ms: 2_000 });
    const ack = JSON.parse(text(reply.body));
    assert.deepEqual([ack.stream, ack.seq], [unique.toUpperCase(), 1]);
  }),

  behaviour('a follower gets the past, then the present, until its signal', async scene => {
    const bus = await scene.connect();
    const { unique } = scene;
    await bus.streams.ensure(streamOf(unique));
    for (const body of ['1', '2', '3']) await bus.streams.append(`${unique}.a`, bytes(body));
    const got: string[] = [];
    const abort = new AbortController();
    const options = { filter: `${unique}.>`, from_seq: 2, signal: abort.signal };
    const following = (async () => {
      for await (const message of bus.streams.follow(unique.toUpperCase(), options)) {
        got.push(text(message.body));
      }
    })();
    await until('the past', () => got.length === 2);
    for (let i = 4; i <= 200; i += 1) await bus.streams.append(`${unique}.a`, bytes(String(i)));
    await until('the present', () => got.length === 199);
    assert.deepEqual(
      got,
      Array.from({ length: 199 }, (_, i) => String(i + 2)),
    );
    abort.abort();
    await following;
  }),
];
