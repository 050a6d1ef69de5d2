/** The HTTP door, opened: the pool's routes in front, the router behind, one port for both. */
import { monotonicFactory } from 'ulid';
import type { RequestId } from '../../../protocol/inference.ts';
import type { ActorContext } from '../../../runtime/actor.ts';
import type { Messenger } from '../../../runtime/messages.ts';
import { createApp } from '../http/app.ts';
import { Gate } from '../http/gate.ts';
import { isLoopback } from '../http/guards.ts';
import { type Listening, listen } from '../http/listen.ts';
import type { Origins } from '../http/origins.ts';
import { PoolDoor } from '../http/pool/pool-door.ts';
import { BusDoor } from './bus-door.ts';
import type { Master } from './master.ts';

export interface OpenDoorOptions extends Pick<ActorContext, 'clock' | 'log' | 'metrics'> {
  readonly master: Master;
  readonly messenger: Messenger;
  readonly version: string;
  readonly host: string;
  readonly port: number;
  /** Whether somebody asked for this very port. */
  readonly isConfigured: boolean;
  readonly auth: 'auto' | 'required';
  /** The key of the machine's owner; absent: he has none. */
  readonly ownerKey?: string;
  /** Web pages that may ask. */
  readonly origins: Origins;
  readonly waitMaxMs: number;
  readonly signOfLifeMs?: number;
}

export interface OpenDoor extends Listening {
  /** Takes no more for the pool; resolves when what is under way has been answered. */
  drain(): Promise<void>;
}

export async function openDoor(options: OpenDoorOptions): Promise<OpenDoor> {
  const { master, messenger, clock, log, metrics, version, host, auth, origins } = options;
  const { keys, pool, directory, policies, nodes, poolMetrics } = master;
  const loopback = isLoopback(host);
  const gate = new Gate({ keys, auth, isLoopback: loopback, ownerKey: options.ownerKey ?? null });
  const door = new BusDoor({ messenger, master, clock, log });
  const app = createApp({
    door,
    clock,
    log,
    metrics,
    version,
    isLoopback: loopback,
    gate,
    mayAsk: origins.other,
  });
  const ulid = monotonicFactory(() => clock.random());
  const poolDoor = new PoolDoor({
    ...{ bus: messenger.bus, messenger, pool, directory, policies, nodes, keys, gate },
    ...{ clock, log, version, metrics: poolMetrics, isLoopback: loopback },
    mayAsk: origins.pool,
    waitMaxMs: options.waitMaxMs,
    newRequestId: () => `r-${ulid(clock.now()).toLowerCase()}` as RequestId,
    ...(options.signOfLifeMs === undefined ? {} : { signOfLifeMs: options.signOfLifeMs }),
  });
  const { port, isConfigured } = options;
  const front: Parameters<typeof listen>[1]['front'] = (request, response) =>
    poolDoor.handle(request, response);
  const listening = await listen(app, { host, port, isConfigured, log, front });
  return { ...listening, drain: () => poolDoor.drain() };
}
