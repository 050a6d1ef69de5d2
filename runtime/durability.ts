/**
 * Whether durable work may be entrusted to the bus: looked up at its monitoring port where that can
 * be reached, else taken from who can. The word is bound to one life of the server by its id.
 *
 * D1  Nobody passes on what he has not seen himself.
 * D2  No word is no: a bus of which nobody says that it syncs is refused.
 */

import { CodeGodError } from '../protocol/errors.ts';
import { ServerAttestation } from '../protocol/server-attestation.ts';
import { BUCKETS } from '../protocol/streams.ts';
import type { Bus } from './bus.ts';
import type { Clock } from './clock.ts';

const PAUSE_MS = 500;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/**
 * Looks at the monitoring port and says on the bus what it saw (D1).
 * @throws CodeGodError `durability_refused`
 */
export async function verifyServer(bus: Bus, release: string, clock: Clock): Promise<void> {
  const durability = await bus.requireDurable();
  if (!durability.ok) {
    throw new CodeGodError('durability_refused', durability.reason, { hint: durability.fix });
  }
  if (!durability.is_same_server) return;
  const { server_id, server_version } = bus.info();
  const bucket = bus.kv(BUCKETS.server.name);
  const { storage, history, max_value_bytes } = BUCKETS.server;
  await bucket.ensure({ storage, history, max_value_bytes });
  const seen = { server_id, sync_always: true, server_version, release, at: clock.now() };
  const attestation: ServerAttestation = seen;
  await bucket.put(server_id, encoder.encode(JSON.stringify(attestation)));
}

/** What is said of the server that this connection leads to; null while nobody says a readable word. */
export async function attestationOf(bus: Bus): Promise<ServerAttestation | null> {
  const { server_id } = bus.info();
  try {
    const entry = await bus.kv(BUCKETS.server.name).get(server_id);
    if (entry === null) return null;
    return readAttestation(entry.value, server_id);
  } catch (error) {
    if (error instanceof CodeGodError && error.code === 'not_found') return null;
    throw error;
  }
}

function readAttestation(value: Uint8Array, serverId: string): ServerAttestation | null {
  try {
    const parsed = ServerAttestation.parse(JSON.parse(decoder.decode(value)));
    return parsed.server_id === serverId ? parsed : null;
  } catch {
    return null; // D2: what cannot be read is no word.
  }
}

/**
 * Waits so long for somebody's word on the server (D2).
 * @throws CodeGodError `durability_refused`
 */
export async function requireAttested(bus: Bus, clock: Clock, waitMs: number): Promise<void> {
  const untilMs = clock.monotonic() + waitMs;
  for (;;) {
    const attestation = await attestationOf(bus);
    if (attestation?.sync_always === true) return;
    if (clock.monotonic() >= untilMs) break;
    await clock.sleep(PAUSE_MS);
  }
  throw new CodeGodError('durability_refused', 'it is unknown whether the bus syncs to disk', {
    hint: 'run `codegod up` on the machine of the bus, or set bus.monitoring_url',
  });
}
