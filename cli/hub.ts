/**
 * The machine whose bus this one serves, looked at as a node would: can it be reached, does it know
 * the token, who are we there, may durable work be entrusted to it. Each failure has its own words.
 */
import { lookup } from 'node:dns/promises';
import { connect } from 'node:net';
import { z } from 'zod';
import { CodeGodError, toWireError } from '../protocol/errors.ts';
import { NodeId } from '../protocol/ids.ts';
import type { ServerAttestation } from '../protocol/server-attestation.ts';
import { BUCKETS } from '../protocol/streams.ts';
import { advertKey } from '../protocol/subjects.ts';
import type { Bus } from '../runtime/bus.ts';
import { systemClock } from '../runtime/clock.ts';
import { attestationOf } from '../runtime/durability.ts';
import { connectNats } from '../runtime/nats-bus.ts';
import { nodeOf, WHO_AM_I } from '../runtime/nats-server/node-permissions.ts';
import { verifyBus } from '../runtime/nats-server/verify.ts';

const REACH_MS = 4_000;
const ASK_MS = 3_000;
const DEFAULT_PORT = 4222;
/** More than this makes deadlines and the age of adverts wrong. */
export const CLOCK_SKEW_MAX_MS = 2_000;

export interface HubAddress {
  readonly url: string;
  readonly seed: string;
}

/** An advert of our node that is alive on the bus. */
export interface LiveAdvert {
  readonly process: 'resource-monitor' | 'worker';
  readonly epoch: number;
  readonly host: string;
}

export interface Hub {
  /** Who the token says that we are. */
  readonly node: NodeId;
  readonly server_version: string;
  /** Null where nobody there says anything of its server. */
  readonly attestation: ServerAttestation | null;
  /** How far its clock is ahead of ours. */
  readonly clock_skew_ms: number;
  readonly adverts: readonly LiveAdvert[];
}

/** @throws CodeGodError `bus_unavailable`, `unauthorized`, `conflict` with what to do about it */
export async function lookAtHub(address: HubAddress): Promise<Hub> {
  await reach(address.url);
  const bus = await open(address);
  try {
    const { node, clock_skew_ms, server_version } = await whoAmI(bus);
    const [attestation, adverts] = await Promise.all([attestationOf(bus), advertsOf(bus, node)]);
    return { node, server_version, attestation, clock_skew_ms, adverts };
  } finally {
    await bus.close();
  }
}

/** Tells apart why there is no connection; the client of the bus only says that there is none. */
async function reach(url: string): Promise<void> {
  const { hostname, port } = new URL(url);
  const host = hostname.replace(/^\[|\]$/g, '');
  const problem = await knock(host, Number(port || DEFAULT_PORT));
  if (problem === 'ENOTFOUND' || problem === 'EAI_AGAIN') {
    throw unreachable(`there is no machine named ${host}`, 'check the name, or give its address');
  }
  if (problem === 'ECONNREFUSED') {
    throw unreachable(
      `${host} is there, but nothing listens at ${url}`,
      'start the system there with `codegod up -d`; its bus listens on that machine only until bus.host is set to 0.0.0.0 in its config.yaml',
    );
  }
  if (problem !== null) {
    throw unreachable(
      `${host} cannot be reached (${problem})`,
      'check that both machines are in one network and that no firewall stands between them',
    );
  }
  const { version, problems } = await verifyBus(url, null);
  if (version === null) {
    throw unreachable(`what listens at ${url} is no bus`, 'check the port: 4222 as a rule');
  }
  const [worst] = problems;
  if (worst !== undefined) throw new CodeGodError(worst.code, `${url}: ${worst.message}`);
}

const unreachable = (message: string, hint: string): CodeGodError =>
  new CodeGodError('bus_unavailable', message, { hint });

/** Null where something accepts connections, else the system's name for the trouble. */
async function knock(host: string, port: number): Promise<string | null> {
  try {
    await lookup(host);
  } catch (error) {
    return codeOf(error);
  }
  return await new Promise(resolve => {
    const socket = connect({ host, port });
    const finish = (problem: string | null): void => {
      socket.destroy();
      resolve(problem);
    };
    socket.setTimeout(REACH_MS, () => finish('ETIMEDOUT'));
    socket.once('connect', () => finish(null));
    socket.once('error', error => finish(codeOf(error)));
  });
}

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? 'unknown';

async function open({ url, seed }: HubAddress): Promise<Bus> {
  try {
    return await connectNats({
      servers: [url],
      name: 'codegod-join',
      clock: systemClock,
      credentials: { nkeySeed: seed },
      isGuest: true,
    });
  } catch (error) {
    if (toWireError(error).code !== 'unauthorized') throw error;
    throw new CodeGodError('unauthorized', `the bus at ${url} does not know this token`, {
      cause: error,
      hint: 'it may be mistyped, revoked or expired: `codegod token list` there; `codegod token create` makes another',
    });
  }
}

const Identity = z.looseObject({
  server: z.looseObject({ time: z.iso.datetime({ offset: true }), ver: z.string().max(64) }),
  data: z.looseObject({
    permissions: z
      .looseObject({
        subscribe: z.looseObject({ allow: z.array(z.string()).default([]) }).optional(),
      })
      .optional(),
  }),
});

async function whoAmI(bus: Bus): Promise<Pick<Hub, 'node' | 'clock_skew_ms' | 'server_version'>> {
  const askedAt = systemClock.now();
  const reply = await bus.ask(WHO_AM_I, new Uint8Array(), { timeout_ms: ASK_MS });
  const { server, data } = Identity.parse(JSON.parse(new TextDecoder().decode(reply.body)));
  const middle = (askedAt + systemClock.now()) / 2;
  const node = NodeId.safeParse(nodeOf(data.permissions?.subscribe?.allow ?? []));
  if (!node.success) {
    throw new CodeGodError('unauthorized', 'this token is not one of a node', {
      hint: '`codegod token create` on the machine of the bus makes one',
    });
  }
  const clock_skew_ms = Math.round(Date.parse(server.time) - middle);
  return { node: node.data, clock_skew_ms, server_version: server.ver };
}

const Advert = z.looseObject({ epoch: z.int(), host: z.string() });
const KINDS = [
  ['capacity', 'resource-monitor'],
  ['runtime', 'worker'],
] as const;

async function advertsOf(bus: Bus, node: NodeId): Promise<LiveAdvert[]> {
  const bucket = bus.kv(BUCKETS.node.name);
  const found: LiveAdvert[] = [];
  for (const [kind, process] of KINDS) {
    const entry = await bucket.get(advertKey(node, kind));
    if (entry === null) continue;
    const advert = Advert.safeParse(JSON.parse(new TextDecoder().decode(entry.value)));
    if (advert.success) found.push({ process, ...advert.data });
  }
  return found;
}
