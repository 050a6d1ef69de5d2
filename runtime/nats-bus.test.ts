import { after, before } from 'node:test';
import { type NatsFixture, startNats } from '../test/nats-fixture.ts';
import { type BusHarness, CORE_BEHAVIOURS, testBehaviours } from './bus-suite.ts';
import { KV_BEHAVIOURS, OBJECT_BEHAVIOURS } from './bus-suite-buckets.ts';
import { CONSUMER_BEHAVIOURS } from './bus-suite-consumers.ts';
import { REPLY_STREAM_BEHAVIOURS } from './bus-suite-replies.ts';
import { STREAM_BEHAVIOURS } from './bus-suite-streams.ts';
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
