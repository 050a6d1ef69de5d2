import { type BusHarness, CORE_BEHAVIOURS, testBehaviours } from './bus-suite.ts';
import { KV_BEHAVIOURS, OBJECT_BEHAVIOURS } from './bus-suite-buckets.ts';
import { CONSUMER_BEHAVIOURS } from './bus-suite-consumers.ts';
import { REPLY_STREAM_BEHAVIOURS } from './bus-suite-replies.ts';
import { STREAM_BEHAVIOURS } from './bus-suite-streams.ts';
import { systemClock } from './clock.ts';
import { createMemoryBroker } from './memory-bus.ts';

const broker = createMemoryBroker({ clock: systemClock });
const harness: BusHarness = { name: 'memory', connect: async () => broker.connect('test') };

testBehaviours(harness, [
  ...CORE_BEHAVIOURS,
  ...REPLY_STREAM_BEHAVIOURS,
  ...STREAM_BEHAVIOURS,
  ...CONSUMER_BEHAVIOURS,
  ...KV_BEHAVIOURS,
  ...OBJECT_BEHAVIOURS,
]);
