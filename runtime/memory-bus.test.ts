/** The in-memory bus behaves like every bus. */
import { KV_BEHAVIOURS, OBJECT_BEHAVIOURS } from './bus-buckets-suite.ts';
import { CONSUMER_BEHAVIOURS } from './bus-consumers-suite.ts';
import { REPLY_STREAM_BEHAVIOURS } from './bus-replies-suite.ts';
import { STREAM_BEHAVIOURS } from './bus-streams-suite.ts';
import { type BusHarness, CORE_BEHAVIOURS, testBehaviours } from './bus-suite.ts';
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
