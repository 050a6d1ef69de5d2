/**
 * The bus over NATS: connects, turns the client's events into ours, checks durability.
 * The only file, with its `nats-*.ts` parts, that knows the NATS client.
 *
 * A1  A lost connection is renewed for as long as the bus is open, with growing jittered pauses.
 */
import {
  type ConnectionOptions,
  errors,
  type NatsConnection,
  nkeyAuthenticator,
  nuid,
  type ServerInfo,
  type Status,
} from '@nats-io/nats-core';
import { connect } from '@nats-io/transport-node';
import semver from 'semver';
import { z } from 'zod';
import { CodeGodError } from '../protocol/errors.ts';
import type { Bus, BusEvent, Durability } from './bus.ts';
import { growingPauseMs } from './bus-append.ts';
import { assembleBus, type Connection, EventHub } from './bus-core.ts';
import { Inbox } from './bus-inbox.ts';
import { monitoringPage } from './bus-monitoring.ts';
import { asError, settledWithin } from './bus-serve.ts';
import { TimerWheel } from './bus-wheel.ts';
import type { Clock } from './clock.ts';
import { JetStreamApi } from './nats-api.ts';
import { openConsumer } from './nats-consumer.ts';
import { GuestStore } from './nats-guest.ts';
import { publicKeyOf } from './nats-keys.ts';
import type { NatsParts } from './nats-parts.ts';
import { inboxOf } from './nats-server/node-permissions.ts';
import { NatsStore } from './nats-store.ts';
import { NatsWire } from './nats-wire.ts';

const VERSION_MIN = '2.12.0';
/** Of each of two tries. */
const CONNECT_TIMEOUT_MS = 3_000;
/** A cut link is noticed within three of these. */
const PING_MS = 1_750;
const PINGS_UNANSWERED_MAX = 2;
const RECONNECT_MIN_MS = 50;
const RECONNECT_MAX_MS = 4_000;
const MONITOR_TIMEOUT_MS = 3_000;
const DISCONNECT_MS = 2_000;

export type NatsCredentials =
  | { readonly user: string; readonly pass: string }
  | { readonly token: string }
  | { readonly nkeySeed: string };

export interface NatsOptions {
  readonly servers: readonly string[];
  /** Shown by the server's monitoring. */
  readonly name: string;
  readonly credentials?: NatsCredentials;
  /** Where replies to this process go; default `_INBOX`, and with a key one of its own. */
  readonly inboxPrefix?: string;
  /** The server's monitoring address, such as `http://127.0.0.1:8222`. */
  readonly monitorUrl?: string;
  /** The bus is another machine's: it defines the streams, and this client reads by asking. */
  readonly isGuest?: boolean;
  readonly clock: Clock;
}

/** Throws `bus_unavailable` when no server answers, `unauthorized` when it refuses. */
export async function connectNats(options: NatsOptions): Promise<Bus> {
  const { clock } = options;
  const hub = new EventHub();
  const reconnects = new Reconnects(clock);
  const connection = await dial(options, reconnects);
  const wheel = new TimerWheel(clock);
  const wire = new NatsWire(connection, `${inboxPrefix(options)}.${nuid.next()}`, hub.emit);
  const inbox = new Inbox(wire, wheel);
  const parts: NatsParts = {
    wire,
    inbox,
    wheel,
    clock,
    api: new JetStreamApi(inbox),
    emit: hub.emit,
    listen: listener => hub.listen(listener),
  };
  const bus = assembleBus({
    wire,
    inbox,
    wheel,
    hub,
    clock,
    store: options.isGuest === true ? new GuestStore(parts) : new NatsStore(parts),
    openConsumer: openConsumer(parts),
    connection: connectionOf(connection, wire, wheel, options),
    newId: () => nuid.next(),
  });
  void watchStatus(connection, wire, hub, reconnects);
  // What may not be asked is told at once instead of being waited for.
  hub.listen(event => {
    if (event.type === 'permission_denied') inbox.refuse(event.subject);
  });
  return bus;
}

function inboxPrefix({ inboxPrefix: given, credentials }: NatsOptions): string {
  if (given !== undefined) return given;
  if (credentials === undefined || !('nkeySeed' in credentials)) return '_INBOX';
  return inboxOf(publicKeyOf(credentials.nkeySeed, 'what was given'));
}

/** How long to wait between two dials. The client asks many times for each, and is told the same. */
class Reconnects {
  pauseMs = RECONNECT_MIN_MS;
  readonly #clock: Clock;
  #tries = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  dialed(): void {
    this.#tries += 1;
    this.pauseMs = growingPauseMs(this.#clock, this.#tries, RECONNECT_MIN_MS, RECONNECT_MAX_MS);
  }

  succeeded(): void {
    this.#tries = 0;
    this.pauseMs = RECONNECT_MIN_MS;
  }
}

async function dial(options: NatsOptions, reconnects: Reconnects): Promise<NatsConnection> {
  // The client changes the object it is given, so it gets its own.
  const dialing: ConnectionOptions = {
    servers: [...options.servers],
    name: options.name,
    maxReconnectAttempts: -1,
    reconnectDelayHandler: () => reconnects.pauseMs,
    ignoreAuthErrorAbort: true,
    noAsyncTraces: true,
    pingInterval: PING_MS,
    maxPingOut: PINGS_UNANSWERED_MAX,
    timeout: CONNECT_TIMEOUT_MS,
    inboxPrefix: inboxPrefix(options),
    ...authentication(options.credentials),
  };
  try {
    return await connected(dialing);
  } catch (cause) {
    const where = options.servers.join(', ');
    const reason = asError(cause).message;
    if (cause instanceof errors.AuthorizationError) {
      const message = `the bus at ${where} refused ${options.name}: ${reason}`;
      throw new CodeGodError('unauthorized', message, { cause });
    }
    throw new CodeGodError('bus_unavailable', `no bus at ${where}: ${reason}`, { cause });
  }
}

/** A handshake can be lost where the server takes in new users at that moment: once more. */
async function connected(dialing: ConnectionOptions): Promise<NatsConnection> {
  try {
    return await connect({ ...dialing });
  } catch (error) {
    if (!(error instanceof errors.TimeoutError)) throw error;
    return await connect(dialing);
  }
}

function authentication(credentials: NatsCredentials | undefined): Partial<ConnectionOptions> {
  if (credentials === undefined) return {};
  if ('user' in credentials) return { user: credentials.user, pass: credentials.pass };
  if ('token' in credentials) return { token: credentials.token };
  return { authenticator: nkeyAuthenticator(new TextEncoder().encode(credentials.nkeySeed)) };
}

/** Follows the client's events until it closes, and keeps `wire.connected` true to them. */
async function watchStatus(
  connection: NatsConnection,
  wire: NatsWire,
  hub: EventHub,
  reconnects: Reconnects,
): Promise<void> {
  let isRefused = false;
  for await (const status of connection.status()) {
    if (status.type === 'disconnect' || status.type === 'close') wire.connected = false;
    if (status.type === 'reconnecting') reconnects.dialed();
    if (status.type === 'reconnect') {
      wire.connected = true;
      reconnects.succeeded();
    }
    const event = eventOf(status, connection.getServer());
    // A refusal ends its connection: that says no more, and less of why.
    const isEcho = isRefused && event?.type === 'disconnected';
    isRefused = event?.type === 'refused';
    if (event !== null && !isEcho) hub.emit(event);
  }
  const reason = await connection.closed();
  wire.connected = false;
  hub.emit({ type: 'closed', reason: reason instanceof Error ? reason.message : null });
}

function eventOf(status: Status, server: string): BusEvent | null {
  switch (status.type) {
    case 'disconnect':
      return { type: 'disconnected', server: status.server };
    case 'reconnect':
      return { type: 'reconnected', server: status.server };
    case 'ldm':
      return { type: 'lame_duck', server: status.server };
    case 'error': {
      const { error } = status;
      if (error instanceof errors.PermissionViolationError) {
        return { type: 'permission_denied', operation: error.operation, subject: error.subject };
      }
      if (error instanceof errors.AuthorizationError) {
        const why = `${error.message}: was its token revoked, or has it expired?`;
        return { type: 'refused', reason: `the bus at ${server} refuses this machine (${why})` };
      }
      return { type: 'error', where: 'connection', error };
    }
    default:
      return null;
  }
}

function connectionOf(
  connection: NatsConnection,
  wire: NatsWire,
  wheel: TimerWheel,
  options: NatsOptions,
): Connection {
  let known = connection.info;
  return {
    info() {
      known = connection.info ?? known;
      return {
        url: `nats://${connection.getServer()}`,
        server_id: known?.server_id ?? 'unknown',
        server_version: known?.version ?? 'unknown',
        max_payload_bytes: wire.maxPayloadBytes,
        connected: wire.connected,
      };
    },
    async rtt() {
      if (!wire.connected) throw new CodeGodError('bus_unavailable', 'the bus is not connected');
      return connection.rtt();
    },
    requireDurable: () => requireDurable(connection.info ?? known, options.monitorUrl),
    async disconnect() {
      // Sends what is still in the buffer; a server that is gone must not hold up the end.
      if (wire.connected) await settledWithin(wheel, DISCONNECT_MS, [connection.flush()]);
      // Said by the client only later; nothing must be sent from here on.
      wire.connected = false;
      await connection.close();
    },
  };
}

const Varz = z.object({
  server_id: z.string(),
  jetstream: z.object({
    config: z.object({ sync_always: z.boolean().default(false) }).optional(),
  }),
});

async function requireDurable(
  server: ServerInfo | undefined,
  monitorUrl: string | undefined,
): Promise<Durability> {
  const refused = (reason: string, fix: string): Durability => ({ ok: false, reason, fix });
  const version = server?.version ?? '0.0.0';
  const { version: plain } = semver.coerce(version) ?? { version: '0.0.0' };
  if (semver.lt(plain, VERSION_MIN)) {
    return refused(`nats-server ${version} is too old`, `use nats-server ${VERSION_MIN} or newer`);
  }
  if (monitorUrl === undefined) {
    const fix = 'configure the monitoring address of the server (`http: 127.0.0.1:8222`)';
    return refused('it is unknown whether the server syncs to disk', fix);
  }
  try {
    const response = await fetch(monitoringPage(monitorUrl, 'varz'), {
      signal: AbortSignal.timeout(MONITOR_TIMEOUT_MS),
    });
    const { server_id, jetstream } = Varz.parse(await response.json());
    if (jetstream.config === undefined) {
      return refused('JetStream is off', 'start nats-server with a `jetstream` block');
    }
    if (jetstream.config.sync_always) {
      return { ok: true, is_same_server: server_id === server?.server_id };
    }
  } catch (error) {
    const reason = `the monitoring of the server does not answer: ${asError(error).message}`;
    return refused(reason, `check the monitoring address, at ${new URL(monitorUrl).origin}`);
  }
  return refused(
    'the server acknowledges before it syncs to disk',
    'set `jetstream { sync_interval: always }`',
  );
}
