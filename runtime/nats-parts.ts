/**
 * What the parts of the NATS adapter share: one connection's wire, inbox, clock and events.
 */
import type { BusEvent } from './bus.ts';
import type { Inbox } from './bus-inbox.ts';
import type { TimerWheel } from './bus-wheel.ts';
import type { Emit } from './bus-wire.ts';
import type { Clock } from './clock.ts';
import type { JetStreamApi } from './nats-api.ts';
import type { NatsWire } from './nats-wire.ts';

export interface NatsParts {
  readonly wire: NatsWire;
  readonly inbox: Inbox;
  readonly wheel: TimerWheel;
  readonly clock: Clock;
  readonly api: JetStreamApi;
  readonly emit: Emit;
  readonly listen: (listener: (event: BusEvent) => void) => () => void;
}
