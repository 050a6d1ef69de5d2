/**
 * `token create|list|revoke`: who may join the bus of this machine.
 *
 * T1  A token is printed once and kept nowhere; what is kept cannot be turned back into it.
 * T2  It counts, or no longer counts, when the command returns: a running server has been told.
 */
import { networkInterfaces } from 'node:os';
import { CodeGodError } from '../../protocol/errors.ts';
import { NodeId } from '../../protocol/ids.ts';
import { BUCKETS } from '../../protocol/streams.ts';
import { advertKey } from '../../protocol/subjects.ts';
import { systemClock } from '../../runtime/clock.ts';
import type { Config } from '../../runtime/config.ts';
import { createUserKey } from '../../runtime/nats-keys.ts';
import {
  changeTokens,
  isExpired,
  type JoinToken,
  readTokens,
  tokenIdOf,
} from '../../runtime/nats-server/join-tokens.ts';
import { rememberedPort } from '../../runtime/nats-server/ports.ts';
import {
  type Door,
  ensureOwnerKey,
  isLoopback,
  ownerKeyFile,
  reloadUsers,
} from '../../runtime/nats-server/users.ts';
import { readVarz } from '../../runtime/nats-server/verify.ts';
import { presentNode } from '../../runtime/node-identity.ts';
import { ensurePaths } from '../../runtime/paths.ts';
import { busUrl, withBus } from '../bus-session.ts';
import type { CommandContext } from '../context.ts';
import { CliError, EXIT } from '../exit-code.ts';
import { parseUntil } from '../since.ts';
import { runningSystem } from '../supervisor/system-record.ts';
import { table } from '../terminal.ts';

const NODE_NAME_LENGTH_MAX = 63;
/** What a date can express. */
const MOMENT_MAX_MS = 8.64e15;

export interface TokenOptions {
  readonly name?: string;
  readonly expires?: string;
}

export async function createToken(context: CommandContext, options: TokenOptions): Promise<number> {
  const config = await ownerConfig(context);
  const now = systemClock.now();
  const expires_at = options.expires === undefined ? null : parseExpiry(options.expires, now);
  const { seed, publicKey } = createUserKey();
  const id = tokenIdOf(publicKey);
  const node = parseName(options.name ?? `node-${id}`);
  await refuseOwnName(config, node);
  const token: JoinToken = {
    id,
    node,
    public_key: publicKey,
    created_at: now,
    expires_at,
  };
  await changeTokens(config.paths.config, tokens => {
    const kept = tokens.filter(one => !isExpired(one, now));
    if (kept.some(one => one.node === node)) throw taken(node);
    return { tokens: [...kept, token], answer: null };
  });
  await tellServer(config, context);
  const listening = await listeningOf(config);
  const commands = listening.urls.map(url => `codegod join ${url} --token ${seed}`);
  const { host } = listening;
  const shown = { id, node, token: seed, expires_at, listens_on: host, commands };
  context.terminal.result(shown, () => commands.join('\n'));
  context.terminal.note(
    `on the other machine, once; the token is not shown again. It joins as ${node}` +
      (expires_at === null ? '.' : ` until ${new Date(expires_at).toISOString()}.`),
  );
  if (isLoopback(host)) context.terminal.note(openHint(config));
  return EXIT.ok;
}

export async function listTokens(context: CommandContext): Promise<number> {
  const config = await ownerConfig(context);
  const now = systemClock.now();
  const tokens = (readTokens(config.paths.config) ?? []).map(token => ({
    id: token.id,
    node: token.node,
    created_at: token.created_at,
    expires_at: token.expires_at,
    expired: isExpired(token, now),
  }));
  context.terminal.result(tokens, () =>
    tokens.length === 0
      ? 'no machine has been given a token'
      : table([
          ['ID', 'NODE', 'CREATED', 'EXPIRES'],
          ...tokens.map(one => [
            one.id,
            one.node,
            day(one.created_at),
            one.expired ? 'expired' : one.expires_at === null ? 'never' : day(one.expires_at),
          ]),
        ]),
  );
  return EXIT.ok;
}

/** @param name the id of a token or its node */
export async function revokeToken(context: CommandContext, name: string): Promise<number> {
  const config = await ownerConfig(context);
  const revoked = await changeTokens(config.paths.config, tokens => {
    const found = tokens.find(one => one.id === name || one.node === name);
    if (found === undefined) {
      throw new CodeGodError('not_found', `there is no token ${name}`, {
        hint: '`codegod token list` lists them',
      });
    }
    return { tokens: tokens.filter(one => one !== found), answer: found };
  });
  await tellServer(config, context);
  const { id, node } = revoked;
  await forgetAdverts(config, node);
  context.terminal.result({ id, node, revoked: true }, () => `${node} is out`);
  return EXIT.ok;
}

/** What is out is no node any more, at once and not when its adverts run out. */
async function forgetAdverts(config: Config, node: NodeId): Promise<void> {
  if (busUrl(config) === null) return;
  try {
    ensureOwnerKey(config.paths.config);
    const owner = { ...config.bus, nkey_file: ownerKeyFile(config.paths.config) };
    await withBus({ ...config, bus: owner }, async ({ bus }) => {
      const adverts = bus.kv(BUCKETS.node.name);
      for (const kind of ['capacity', 'runtime'] as const) {
        await adverts.delete(advertKey(node, kind));
      }
    });
  } catch (error) {
    // It is out all the same; what it said last is gone after its time to live.
    if (!(error instanceof CodeGodError)) throw error;
  }
}

const day = (ms: number): string => new Date(ms).toISOString().slice(0, 16).replace('T', ' ');

/** The configuration of a machine that may let others in. */
async function ownerConfig(context: CommandContext): Promise<Config> {
  const config = await context.config();
  const { url, token, joined } = config.bus;
  if (url !== undefined) {
    const whose = joined ? 'this machine is itself a node of' : 'the configured bus is not ours:';
    throw new CodeGodError('conflict', `${whose} ${url}`, {
      hint: 'make the token on the machine that runs the bus',
    });
  }
  if (token !== undefined) {
    const message = 'bus.token is set: whoever has it may do everything, and no other token counts';
    throw new CodeGodError('conflict', message, {
      hint: `leave out bus.token (${config.origins['bus.token']}) to let machines in one by one`,
    });
  }
  ensurePaths(config.paths);
  return config;
}

function parseName(name: string): NodeId {
  const parsed = NodeId.safeParse(name);
  if (parsed.success && !name.endsWith('-')) return parsed.data;
  throw new CodeGodError('bad_request', `${name} cannot be the name of a node`, {
    hint: `lower-case letters, digits and dashes, at most ${NODE_NAME_LENGTH_MAX}`,
  });
}

function parseExpiry(text: string, now: number): number {
  const at = parseUntil(text, now);
  if (at !== null && at > now && at <= MOMENT_MAX_MS) return at;
  throw new CliError('usage', `${text} is no moment to come`, '30d, 12h, 10m or a date');
}

async function refuseOwnName(config: Config, node: NodeId): Promise<void> {
  const own = await presentNode({
    directory: config.paths.state,
    name: config.node.name,
    configured: config.origins['node.name'] !== 'default',
  });
  if (node === own) throw taken(node);
}

const taken = (node: NodeId): CodeGodError =>
  new CodeGodError('conflict', `there is a node ${node} already`, {
    hint: 'give the other machine another --name, or revoke its old token first',
  });

async function tellServer(config: Config, { terminal }: CommandContext): Promise<void> {
  const { host, token } = config.bus;
  const monitoringUrl = runningSystem(config.paths.state)?.bus.monitoring_url ?? null;
  const door: Door = { configDir: config.paths.config, host, token, monitoringUrl };
  const told = await reloadUsers(door, systemClock.now(), null); // T2
  if (told === null) terminal.note('no bus runs here now; it counts from the next `codegod up` on');
}

interface Listening {
  readonly host: string;
  readonly urls: readonly string[];
}

/** Where another machine finds the bus: as it listens now, or as it is configured to. */
async function listeningOf(config: Config): Promise<Listening> {
  const running = runningSystem(config.paths.state)?.bus;
  const monitoring = running?.monitoring_url ?? null;
  const varz = monitoring === null ? null : await readVarz(monitoring);
  const host = varz?.host ?? config.bus.host;
  const port = varz?.port ?? config.bus.port ?? rememberedPort(config.paths.config);
  const isEverywhere = host === '0.0.0.0' || host === '::' || isLoopback(host);
  const hosts = isEverywhere ? ownAddresses() : [host];
  const urlOf = (one: string): string => `nats://${one.includes(':') ? `[${one}]` : one}:${port}`;
  return { host, urls: hosts.map(urlOf) };
}

/** Addresses of this machine that others may reach; IPv4 first, which people can read out. */
function ownAddresses(): string[] {
  const all = Object.values(networkInterfaces()).flatMap(list => list ?? []);
  const reachable = all.filter(one => !one.internal && !one.address.startsWith('fe80:'));
  const ipv4 = reachable.filter(one => one.family === 'IPv4').map(one => one.address);
  const others = reachable.filter(one => one.family !== 'IPv4').map(one => one.address);
  return ipv4.length > 0 ? ipv4 : others.length > 0 ? others : ['127.0.0.1'];
}

const openHint = (config: Config): string =>
  [
    'The bus listens on this machine only. For others to reach it:',
    `  put \`bus: {host: 0.0.0.0}\` into ${config.paths.config}/config.yaml`,
    '  codegod down && codegod up -d',
  ].join('\n');
