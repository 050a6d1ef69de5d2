/** The typed layer over the in-memory bus: what goes over the wire, and what errors become. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { z } from 'zod';
import { decode, encode, JSON_TYPE, MSGPACK_TYPE } from '../protocol/codec.ts';
import { CodeGodError } from '../protocol/errors.ts';
import { DEAD_LETTER_BYTES_MAX } from '../protocol/limits.ts';
import { STREAMS } from '../protocol/streams.ts';
import type { BusMessage, ConsumeOptions, Outcome, StoredMessage } from './bus.ts';
import { SimulatedClock } from './clock.ts';
import { DEAD_HEADER } from './dead-letters.ts';
import { createMemoryBroker, type MemoryBus } from './memory-bus.ts';
import { createMessenger } from './messages.ts';
import { isTraceparent } from './trace.ts';

const Question = z.looseObject({ n: z.int() });
const Answer = z.looseObject({ doubled: z.int() });
const SUBJECT = 'codegod.node.n1.reserve';
const TIMES = { timeout_ms: 1_000 };

function place() {
  const clock = new SimulatedClock();
  const broker = createMemoryBroker({ clock });
  const join = (name: string) =>
    createMessenger(broker.connect(name), { source: `/node/n1/actor/${name}`, clock });
  return { clock, asker: join('asker'), server: join('server') };
}

const double = async ({ n }: z.output<typeof Question>) => ({ doubled: 2 * n });

test('a question is answered, unknown fields and all', async () => {
  const { asker, server } = place();
  server.serve(SUBJECT, Question, async question => ({ ...question, doubled: 2 * question.n }));
  const answer = await asker.ask(SUBJECT, { n: 21, extra: ['kept'] }, Answer, TIMES);
  assert.deepEqual(answer, { n: 21, doubled: 42, extra: ['kept'] });
});

test('the reply comes in the format of the request', async () => {
  const { asker, server } = place();
  server.serve(SUBJECT, Question, double);
  for (const format of [JSON_TYPE, MSGPACK_TYPE] as const) {
    const headers = { 'content-type': format };
    const body = encode({ n: 1 }, format);
    const reply = await asker.bus.ask(SUBJECT, body, { ...TIMES, headers });
    assert.equal(reply.headers['content-type'], format);
    assert.deepEqual(decode(reply.body, format), { doubled: 2 });
  }
  const plain = await asker.bus.ask(SUBJECT, encode({ n: 3 }), TIMES);
  assert.deepEqual(JSON.parse(new TextDecoder().decode(plain.body)), { doubled: 6 });
});

test('what the handler throws is thrown at the asker: code, hint, details', async () => {
  const { asker, server } = place();
  const details = { nearest: ['qwen'] };
  server.serve(SUBJECT, Question, async () => {
    throw new CodeGodError('model_missing', 'no such model', { hint: 'pull it', details });
  });
  await assert.rejects(asker.ask(SUBJECT, { n: 1 }, Answer, TIMES), {
    name: 'CodeGodError',
    code: 'model_missing',
    message: 'no such model',
    hint: 'pull it',
    details,
  });
});

test('a request that does not fit is refused with the fields named, before the handler', async () => {
  const { asker, server } = place();
  let runs = 0;
  server.serve(SUBJECT, z.looseObject({ a: z.object({ b: z.string() }) }), async () => {
    runs += 1;
    return {};
  });
  await assert.rejects(asker.ask(SUBJECT, { a: { b: 7 } }, Answer, TIMES), {
    code: 'bad_message',
    message: /a\.b: .*expected string/,
  });
  await assert.rejects(
    asker.bus.ask(SUBJECT, new TextEncoder().encode('{'), TIMES).then(throwIfError),
    {
      message: /bad_message/,
    },
  );
  assert.equal(runs, 0);
});

function throwIfError(reply: BusMessage): void {
  throw new Error(reply.headers['Nats-Service-Error'] ?? 'no error');
}

test('a reply that does not fit its schema is bad_message', async () => {
  const { asker, server } = place();
  server.serve(SUBJECT, Question, async () => ({ halved: 1 }));
  await assert.rejects(asker.ask(SUBJECT, { n: 1 }, Answer, TIMES), { code: 'bad_message' });
});

test('a message of an unknown version is refused', async () => {
  const { asker, server } = place();
  server.serve(SUBJECT, Question, double);
  const headers = { 'ce-type': 'dev.codegod.node.reserve.v99' };
  const reply = await asker.bus.ask(SUBJECT, encode({ n: 1 }), { ...TIMES, headers });
  assert.match(reply.headers['Nats-Service-Error'] ?? '', /unsupported_version/);
});

test('a request whose deadline has passed is answered with timeout and not run', async () => {
  const { clock, asker, server } = place();
  let runs = 0;
  server.serve(SUBJECT, Question, async () => {
    runs += 1;
    return {};
  });
  const late = { 'cg-deadline': String(clock.now() - 10_000) };
  const reply = await asker.bus.ask(SUBJECT, encode({ n: 1 }), { ...TIMES, headers: late });
  assert.match(reply.headers['Nats-Service-Error'] ?? '', /^timeout/);
  const skewed = { 'cg-deadline': String(clock.now() - 1_000) };
  await asker.bus.ask(SUBJECT, encode({ n: 1 }), { ...TIMES, headers: skewed });
  assert.equal(runs, 1, 'a second of difference between two clocks is no lateness');
});

test('a handler sees the deadline and the trace of its caller, and may pass the trace on', async () => {
  const { clock, asker, server } = place();
  const seen: unknown[] = [];
  const traces: string[] = [];
  server.serve('codegod.mcp.n1.call', Question, async (question, context) => {
    traces.push(context.traceparent);
    return await double(question);
  });
  server.serve(SUBJECT, Question, async (question, context) => {
    seen.push(context.deadline);
    traces.push(context.traceparent);
    const onward = server.withTrace(context.traceparent);
    return await onward.ask('codegod.mcp.n1.call', question, Answer, TIMES);
  });
  const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
  await asker.ask(SUBJECT, { n: 1 }, Answer, { ...TIMES, traceparent });
  assert.deepEqual(seen, [clock.now() + 1_000]);
  assert.deepEqual(traces, [traceparent, traceparent]);
  await asker.ask(SUBJECT, { n: 1 }, Answer, TIMES);
  assert(isTraceparent(traces[2] ?? '') && traces[2] !== traceparent, 'a new one where none came');
});

test('a stream of replies arrives value by value, and its error at the end', async () => {
  const { asker, server } = place();
  server.serveStream(SUBJECT, Question, async ({ n }, { send }) => {
    for (let index = 0; index < n; index++) await send({ doubled: index });
    if (n === 3) throw new CodeGodError('engine_failed', 'out of memory');
  });
  const options = { first_ms: 1_000, idle_ms: 1_000, format: MSGPACK_TYPE } as const;
  const collect = async (n: number, into: number[]) => {
    for await (const { doubled } of asker.askStream(SUBJECT, { n }, Answer, options)) {
      into.push(doubled);
    }
  };
  const [whole, broken]: [number[], number[]] = [[], []];
  await collect(2, whole);
  assert.deepEqual(whole, [0, 1]);
  await assert.rejects(collect(3, broken), { code: 'engine_failed' });
  assert.deepEqual(broken, [0, 1, 2]);
});

test('served subjects are counted: requests, errors, time', async () => {
  const { clock, asker, server } = place();
  const subscription = server.serve(SUBJECT, Question, async ({ n }) => {
    await clock.sleep(40);
    if (n < 0) throw new CodeGodError('bad_request', 'negative');
    return { doubled: n };
  });
  for (const n of [1, -1]) {
    const asked = asker.ask(SUBJECT, { n }, Answer, TIMES).catch(() => null);
    await clock.advance(100);
    await asked;
  }
  const { name, requests, errors, last_error, processing_ms } = server.endpoints[0] ?? {};
  assert.deepEqual(
    { name, requests, errors, last_error, processing_ms },
    { name: 'node.reserve', requests: 2, errors: 1, last_error: 'negative', processing_ms: 80 },
  );
  await subscription.stop();
  assert.deepEqual(server.endpoints, []);
});

const { build, dead } = STREAMS;
const CONSUMER: ConsumeOptions = {
  durable: 'master',
  filter: build.subjects[0],
  ack_wait_ms: 30_000,
  max_deliver: 3,
  max_ack_pending: 10,
  concurrency: 1,
};

async function streams() {
  const where = place();
  for (const { name, subjects } of [build, dead]) {
    await where.server.bus.streams.ensure({ name, subjects, storage: 'memory', discard: 'new' });
  }
  const deadLetters = async (): Promise<StoredMessage[]> => {
    const found: StoredMessage[] = [];
    const all = { filter: dead.subjects[0], from_seq: 1 };
    for await (const message of where.asker.bus.streams.read(dead.name, all)) found.push(message);
    return found;
  };
  return { ...where, deadLetters };
}

test('an appended value has its envelope, and the same id is stored once', async () => {
  const { clock, asker } = await streams();
  const options = { id: 'r1', fence: 7, attempt: 2 };
  const first = await asker.append('codegod.build', 'build.requested', { n: 1 }, options);
  const second = await asker.append('codegod.build', 'build.requested', { n: 1 }, options);
  assert.deepEqual(first, { kind: 'appended', seq: 1, duplicate: false });
  assert.deepEqual(second, { kind: 'appended', seq: 1, duplicate: true });
  const stored = await asker.bus.streams.last(build.name, 'codegod.build');
  const { traceparent, ...headers } = stored?.headers ?? {};
  assert(isTraceparent(traceparent ?? ''));
  assert.deepEqual(headers, {
    'ce-specversion': '1.0',
    'ce-id': 'r1',
    'ce-type': 'dev.codegod.build.requested.v1',
    'ce-source': '/node/n1/actor/asker',
    'ce-time': new Date(clock.now()).toISOString(),
    'content-type': JSON_TYPE,
    'cg-fence': '7',
    'cg-attempt': '2',
    'Nats-Msg-Id': 'r1',
  });
});

test('a malformed message becomes a dead letter with the reason, and is not delivered again', async () => {
  const { clock, asker, server, deadLetters } = await streams();
  const handled: number[] = [];
  await asker.bus.streams.append('codegod.build', encode({ n: 'x' }), {
    headers: { 'x-own': 'y' },
  });
  await asker.append('codegod.build', 'build.requested', { n: 5 });
  const subscription = await server.consume(build.name, CONSUMER, Question, async ({ n }) => {
    handled.push(n);
    return { kind: 'done' };
  });
  await clock.advance(120_000);
  assert.deepEqual(handled, [5]);
  const letters = await deadLetters();
  assert.equal(letters.length, 1);
  const [letter] = letters;
  assert.deepEqual(decode(letter?.body ?? encode(null), undefined), { n: 'x' });
  assert.equal(letter?.subject, 'codegod.dead.codegod_build');
  assert.equal(letter?.headers[DEAD_HEADER.code], 'bad_message');
  assert.match(letter?.headers[DEAD_HEADER.reason] ?? '', /n: .*expected/);
  assert.equal(letter?.headers[DEAD_HEADER.subject], 'codegod.build');
  assert.equal(letter?.headers[DEAD_HEADER.stream], build.name);
  assert.equal(letter?.headers[DEAD_HEADER.sequence], '1');
  assert.equal(letter?.headers['x-own'], 'y');
  await subscription.stop();
});

test('onBad takes the place of the dead letter', async () => {
  const { clock, asker, server, deadLetters } = await streams();
  await asker.bus.streams.append('codegod.build', encode({ n: 'x' }));
  const codes: string[] = [];
  const subscription = await server.consume(
    build.name,
    CONSUMER,
    Question,
    async () => ({ kind: 'done' }),
    async error => {
      codes.push(error.code);
      return { kind: 'done' };
    },
  );
  await clock.advance(60_000);
  assert.deepEqual(codes, ['bad_message']);
  assert.deepEqual(await deadLetters(), []);
  await subscription.stop();
});

for (const failure of ['says retry', 'throws'] as const) {
  test(`a message whose handler ${failure} each time is a dead letter after its last delivery`, async () => {
    const { clock, asker, server, deadLetters } = await streams();
    await asker.append('codegod.build', 'build.requested', { n: 1 });
    let deliveries = 0;
    const subscription = await server.consume(
      build.name,
      CONSUMER,
      Question,
      async (): Promise<Outcome> => {
        deliveries += 1;
        if (failure === 'throws') throw new CodeGodError('disk_full', 'no room');
        return { kind: 'retry', delay_ms: 500, reason: 'no room' };
      },
    );
    await clock.advance(120_000);
    assert.equal(deliveries, CONSUMER.max_deliver);
    const [letter, ...others] = await deadLetters();
    assert.match(letter?.headers[DEAD_HEADER.reason] ?? '', /after 3 deliveries: .*no room/);
    assert.deepEqual(others, []);
    await subscription.stop();
  });
}

test('a message whose process died during its last delivery is a dead letter too', async () => {
  const { clock, asker, server, deadLetters } = await streams();
  await asker.append('codegod.build', 'build.requested', { n: 1 });
  const once = { ...CONSUMER, max_deliver: 1 };
  const hang = (): Promise<Outcome> => new Promise(() => {});
  await server.consume(build.name, once, Question, hang);
  await clock.advance(100);
  (server.bus as MemoryBus).disconnect();
  const heir = await asker.consume(build.name, once, Question, async () => ({ kind: 'done' }));
  await clock.advance(120_000);
  const letters = await deadLetters();
  assert.match(letters[0]?.headers[DEAD_HEADER.reason] ?? '', /died during each/);
  await heir.stop();
});

test('a dead letter holds the head of what it is of, and lies with those of its node', async () => {
  const { asker, server, deadLetters } = await streams();
  const headers = { kept: 'x'.repeat(1_000), large: 'x'.repeat(100_000), also: 'y' };
  const where = { subject: 'codegod.task.attic.b1.store.1', seq: 7, time: '' };
  const message = { ...where, headers, body: new Uint8Array(200_000) };
  await server.deadLetter('CODEGOD_TASK', message, { code: 'denied', message: 'z'.repeat(9_000) });
  const [letter] = await deadLetters();
  assert.equal(letter?.subject, 'codegod.dead.codegod_task.attic');
  const { kept, large, also } = letter?.headers ?? {};
  assert.deepEqual([kept?.length, large, also], [1_000, undefined, 'y']);
  const size = letter.body.length + JSON.stringify(letter.headers).length;
  assert.ok(size > 16_000 && size < DEAD_LETTER_BYTES_MAX, `${size}`);
  // Another's message under an id that was guessed would take its place.
  const guessed = { id: 'dead:CODEGOD_TASK:8' };
  await asker.bus.streams.append('codegod.dead.codegod_task.cellar', encode({}), guessed);
  await server.deadLetter('CODEGOD_TASK', { ...message, seq: 8 }, { code: 'denied', message: '' });
  assert.equal((await deadLetters()).length, 3);
});

test('a dead letter is stored once however often it is written', async () => {
  const { asker, server, deadLetters } = await streams();
  await asker.append('codegod.build', 'build.requested', { n: 1 });
  const message = await server.bus.streams.last(build.name, 'codegod.build');
  assert(message !== null);
  for (let times = 0; times < 3; times++) {
    await server.deadLetter(build.name, message, { code: 'denied', message: 'no\nmatter' });
  }
  const letters = await deadLetters();
  assert.equal(letters.length, 1);
  assert.equal(letters[0]?.headers[DEAD_HEADER.reason], 'no matter');
});
