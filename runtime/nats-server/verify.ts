/**
 * Looks at a running bus and says whether durable work may be entrusted to it.
 *
 * What the bus says of itself on connecting (INFO) gives its version and whether it stores at all.
 * Whether it syncs every write is only told by the monitoring port; unknown is not the same as no.
 */
import { connect } from 'node:net';
import semver from 'semver';
import { z } from 'zod';
import type { ErrorCode } from '../../protocol/error-codes.ts';
import { monitoringPage } from '../bus-monitoring.ts';
import { SERVER_VERSION_MIN } from './find.ts';

const Info = z.object({
  version: z.string().max(64),
  jetstream: z.boolean().default(false),
});

const Varz = z.object({
  version: z.string().max(64),
  /** The address that it listens on, for clients. */
  host: z.string().max(255).default('127.0.0.1'),
  port: z.int(),
  config_load_time: z.string().max(64).optional(),
  jetstream: z
    .object({
      config: z
        .object({
          sync_always: z.boolean().default(false),
          store_dir: z.string().max(4_096).default(''),
        })
        .optional(),
    })
    .optional(),
});
export type Varz = z.infer<typeof Varz>;

export interface BusVerdict {
  /** Null when the bus does not answer. */
  readonly version: string | null;
  readonly jetstream: boolean;
  /** Null when no monitoring port tells. */
  readonly sync_always: boolean | null;
  /** What forbids durable work, worst first; empty for a good bus. */
  readonly problems: readonly { readonly code: ErrorCode; readonly message: string }[];
}

const ANSWER_TIMEOUT_MS = 2_000;
const INFO_LENGTH_MAX = 64 * 1024;
const INFO_BYTES_MAX = 64 * 1024;
const DEFAULT_PORT = 4222;

/** Never throws: an unreachable bus is a verdict. Takes at most about 4 seconds. */
export async function verifyBus(url: string, monitoringUrl: string | null): Promise<BusVerdict> {
  const info = await readInfo(url);
  const varz = monitoringUrl === null ? null : await readVarz(monitoringUrl);
  if (!info) {
    const message = `nothing that speaks NATS answers at ${withoutSecrets(url)}`;
    return {
      version: null,
      jetstream: false,
      sync_always: null,
      problems: [{ code: 'bus_unavailable', message }],
    };
  }
  const messages: string[] = [];
  if (semver.lt(semver.coerce(info.version) ?? '0.0.0', SERVER_VERSION_MIN)) {
    messages.push(`the bus is nats-server ${info.version}; ${SERVER_VERSION_MIN} is needed`);
  }
  if (!info.jetstream) messages.push('the bus stores nothing: jetstream is not enabled');
  const syncAlways = varz?.jetstream?.config?.sync_always ?? null;
  if (syncAlways === false) {
    messages.push('the bus acknowledges before it has synced: sync_interval is not `always`');
  }
  return {
    version: info.version,
    jetstream: info.jetstream,
    sync_always: syncAlways,
    problems: messages.map(message => ({ code: 'durability_refused' as const, message })),
  };
}

/** The server's description of itself; null when the monitoring port does not answer properly. */
export async function readVarz(monitoringUrl: string): Promise<Varz | null> {
  try {
    const response = await fetch(monitoringPage(monitoringUrl, 'varz'), {
      signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS),
    });
    return Varz.parse(await response.json());
  } catch {
    return null; // Refused, silent or foreign: all mean that nothing is known.
  }
}

/** The first line a NATS server sends, before any login. */
function readInfo(url: string): Promise<z.infer<typeof Info> | null> {
  const { hostname, port } = new URL(url.includes('://') ? url : `nats://${url}`);
  return new Promise(resolve => {
    let text = '';
    const socket = connect({
      host: hostname.replace(/^\[|\]$/g, ''),
      port: Number(port || DEFAULT_PORT),
    });
    const finish = (info: z.infer<typeof Info> | null): void => {
      socket.destroy();
      resolve(info);
    };
    socket.setTimeout(ANSWER_TIMEOUT_MS, () => finish(null));
    socket.once('error', () => finish(null));
    socket.once('close', () => finish(null));
    socket.setEncoding('utf8').on('data', chunk => {
      text += chunk;
      const end = text.indexOf('\r\n');
      if (end >= 0) finish(parseInfo(text.slice(0, end)));
      else if (text.length > INFO_LENGTH_MAX) finish(null);
      else if (text.length > INFO_BYTES_MAX) finish(null);
    });
  });
}

function parseInfo(line: string): z.infer<typeof Info> | null {
  if (!line.startsWith('INFO ')) return null;
  try {
    return Info.parse(JSON.parse(line.slice('INFO '.length)));
  } catch {
    return null; // Another protocol that happens to begin alike.
  }
}

function withoutSecrets(url: string): string {
  return url.replace(/\/\/[^@/]*@/, '//');
}
