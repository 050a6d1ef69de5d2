/** The NATS bus behaves like every bus, against a real server. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from '@nats-io/transport-node';
import { type NatsFixture, startNats } from '../test/nats-fixture.ts';
import { KV_BEHAVIOURS, OBJECT_BEHAVIOURS } from './bus-buckets-suite.ts';
import { CONSUMER_BEHAVIOURS } from './bus-consumers-suite.ts';
import { REPLY_STREAM_BEHAVIOURS } from './bus-replies-suite.ts';
import { STREAM_BEHAVIOURS, streamOf } from './bus-streams-suite.ts';
import { type BusHarness, bytes, CORE_BEHAVIOURS, testBehaviours, text } from './bus-suite.ts';
import { systemClock } from './clock.ts';
import { connectNats } from './nats-bus.ts';

let server: NatsFixture;
before(async () => {
  server = await startNats();
});
after(() => server.stop());

const harness: BusHarness = {
  name: 'nats',
  connect: () => connectNats({ servers: [server.url], name: 'test', clock: systemClock }),
};

testBehaviours(harness, [
  ...CORE_BEHAVIOURS,
  ...REPLY_STREAM_BEHAVIOURS,
  ...STREAM_BEHAVIOURS,
  ...CONSUMER_BEHAVIOURS,
  ...KV_BEHAVIOURS,
  ...OBJECT_BEHAVIOURS,
]);

test('readers and followers that were left leave no consumer behind', async () => {
  const bus = await harness.connect();
  await bus.streams.ensure(streamOf('left'));
  for (let i = 0; i < 100; i += 1) await bus.streams.append('left.a', bytes('x'));
  const options = { filter: 'left.>', from_seq: 1 };
  for (let i = 0; i < 10; i += 1) {
    for await (const { seq } of bus.streams.read('LEFT', options)) if (seq === i) break;
    const { signal } = new AbortController();
    for await (const _ of bus.streams.follow('LEFT', { ...options, signal })) break;
  }
  const consumers = async (): Promise<number> => {
    const reply = await bus.ask('$JS.API.STREAM.INFO.LEFT', bytes(''), { timeout_ms: 2_000 });
    return JSON.parse(text(reply.body)).state.consumer_count;
  };
  for (let tries = 0; tries < 100 && (await consumers()) > 0; tries += 1) await sleep(20);
  assert.equal(await consumers(), 0);
  await bus.close();
});

test('what other clients call a bucket and an object is the same here', async () => {
  const bus = await harness.connect();
  const kv = bus.kv('shared');
  await kv.ensure({ storage: 'memory', ttl_ms: 60_000 });
  const revision = await kv.put('a.b', bytes('x'));
  const last = await bus.streams.last('KV_shared', '$KV.shared.a.b');
  assert.deepEqual([last?.seq, last && text(last.body)], [revision, 'x']);
  const objects = bus.objects('shared');
  await objects.ensure({ storage: 'file' });
  await objects.put('dir/a b', bytes('content'));
  const name = Buffer.from('dir/a b').toString('base64url');
  const meta = await bus.streams.last('OBJ_shared', `$O.shared.M.${name.padEnd(12, '=')}`);
  const { digest, chunks, size, nuid } = JSON.parse(text(meta?.body ?? bytes('null')));
  assert.deepEqual([chunks, size], [1, 7]);
  assert.equal(digest, 'SHA-256=7XACtDnprIRfIjV9giusFERzD722AW0-yUMil7nsn3M=');
  const chunk = await bus.streams.last('OBJ_shared', `$O.shared.C.${nuid}`);
  assert.equal(chunk && text(chunk.body), 'content');
  await bus.close();
});

test('nobody is answered on a subject of the system, whatever a request asks for', async () => {
  const bus = await harness.connect();
  const raw = await connect({ servers: [server.url] });
  const refused: string[] = [];
  bus.status(event => {
    if (event.type === 'error') refused.push(event.error.message);
  });
  const served: string[] = [];
  bus.serve('spoof.ask', async message => {
    served.push(text(message.body));
    return { body: bytes('an answer') };
  });
  bus.serveStream('spoof.stream', async (_message, { send }) => send(bytes('an answer')));
  const overheard: string[] = [];
  bus.subscribe('codegod.event.>', ({ subject }) => overheard.push(subject));
  bus.subscribe('$KV.>', ({ subject }) => overheard.push(subject));
  await bus.rtt();
  for (const subject of ['spoof.ask', 'spoof.stream']) {
    raw.publish(subject, 'x', { reply: 'codegod.event.b1.build.ended' });
    raw.publish(subject, 'x', { reply: '$KV.codegod_policy.model.x' });
  }
  const { string } = await raw
    .request('spoof.ask', 'y')
    .then(reply => ({ string: reply.string() }));
  assert.equal(string, 'an answer');
  for (let tries = 0; tries < 100 && refused.length < 4; tries += 1) await sleep(20);
  assert.deepEqual([refused.length, served, overheard], [4, ['y'], []]);
  await raw.close();
  await bus.close();
});
