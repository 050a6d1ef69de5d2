/**
 * Who may connect to the bus server of this machine, and how a running server is told that this has
 * changed.
 *
 *   loopback, never a token   anybody on this machine
 *   `bus.token`               whoever presents it, with all rights
 *   else                      this machine itself, by its own key, with all rights; and one user per
 *                             join token, with those of a node (node-permissions.ts)
 *
 * U1  The server's files hold public keys; the seed of this machine's own key lies in a private file
 *     of its own, made at first need.
 * U2  Nobody else listens at another address than loopback without being let in: there is no
 *     combination of settings that opens it to all.
 * U3  A bus that has had tokens stays guarded when the last is gone: else who was put out would find
 *     it open. Removing `join-tokens.json` opens it again.
 * U4  An expired token is no user. The supervisor looks again and again, and also makes good what a
 *     command that died half-way did not tell the server.
 */
import { linkSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CodeGodError } from '../../protocol/errors.ts';
import { systemClock } from '../clock.ts';
import { createUserKey, publicKeyOf } from '../nats-keys.ts';
import { readIfThere } from '../read-if-there.ts';
import { quote, replaceFile } from './configure.ts';
import { isExpired, lockTokens, readTokens } from './join-tokens.ts';
import { nodePermissions } from './node-permissions.ts';
import { runningPid, serverFile } from './orphan.ts';
import { readVarz } from './verify.ts';

/** How long a node may take over one answer, such as a long generation. */
const ANSWER_MAX = '1h';

export interface Door {
  /** Absolute: where the server's files and the tokens lie. */
  readonly configDir: string;
  readonly host: string;
  /** The shared secret, where one is configured. */
  readonly token: string | undefined;
  /** Where the running server tells when it has read its files. */
  readonly monitoringUrl: string | null;
}

/** A server that does not say so in time has got the signal all the same. */
const RELOAD_MS = 3_000;
const POLL_MS = 20;

type UsersDoor = Omit<Door, 'monitoringUrl'>;

export const isLoopback = (host: string): boolean =>
  host === '127.0.0.1' || host === '::1' || host === 'localhost';

/** The file with the seed of this machine's own key. */
export const ownerKeyFile = (configDir: string): string => join(configDir, 'bus-owner.nk');

/** Makes the key of this machine where there is none yet; processes at once agree on one (U1). */
export function ensureOwnerKey(configDir: string): string {
  const file = ownerKeyFile(configDir);
  const known = readSeed(file);
  if (known !== null) return known;
  const draft = `${file}.${process.pid}`;
  writeFileSync(draft, `${createUserKey().seed}\n`, { mode: 0o600 });
  try {
    linkSync(draft, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error; // Another was first.
  } finally {
    rmSync(draft, { force: true });
  }
  return readSeed(file) ?? missingKey(file);
}

function missingKey(file: string): never {
  throw new CodeGodError('config_invalid', `${file} was removed while it was made`);
}

/** The seed in a file; null where there is no such file. */
export function readSeed(file: string): string | null {
  return readIfThere(file)?.trim() ?? null;
}

/** The text of the users file. @throws CodeGodError `config_invalid` where a file is damaged */
export function renderUsers({ configDir, host, token }: UsersDoor, now: number): string {
  if (token !== undefined) return `authorization { token: ${quote(token)} }\n`;
  const known = readTokens(configDir);
  if (isLoopback(host) && known === null) return '# Anybody on this machine.\n';
  const tokens = (known ?? []).filter(one => !isExpired(one, now)); // U4
  const owner = publicKeyOf(ensureOwnerKey(configDir), ownerKeyFile(configDir));
  const users = tokens.map(({ node, public_key }) => {
    const { publish, subscribe } = nodePermissions(node, public_key);
    return [
      `  { nkey: ${public_key}, permissions: {`,
      `    publish: { allow: [${publish.map(quote).join(', ')}] }`,
      `    subscribe: { allow: [${subscribe.map(quote).join(', ')}] }`,
      `    allow_responses: { max: -1, expires: ${quote(ANSWER_MAX)} }`,
      '  } }',
    ].join('\n');
  });
  return ['authorization { users: [', `  { nkey: ${owner} }`, ...users, '] }', ''].join('\n');
}

/** Writes the users file and answers its text. */
export function writeUsers(door: UsersDoor, now: number): string {
  const text = renderUsers(door, now);
  replaceFile(serverFile(door.configDir, 'users'), text);
  return text;
}

/**
 * Brings the running server's users up to date, except where it has loaded the very same before, and
 * waits until it has read them. Answers what it has now, or null where no server runs: the next one reads the file at its start.
 */
export async function reloadUsers(
  door: Door,
  now: number,
  loaded: string | null,
): Promise<string | null> {
  return await lockTokens(door.configDir, async () => {
    const pid = runningPid(door.configDir);
    if (pid === null) return null;
    // Another process may have had something else loaded meanwhile, and noted it in the file.
    const wanted = renderUsers(door, now);
    const written = readFileSync(serverFile(door.configDir, 'users'), 'utf8');
    if (wanted === loaded && wanted === written) return loaded;
    const before = await loadedAt(door, null);
    const text = writeUsers(door, now);
    // Windows knows no such signal: there the server ends, and its supervisor starts it again.
    process.kill(pid, process.platform === 'win32' ? 'SIGTERM' : 'SIGHUP');
    await loadedAt(door, before);
    return text;
  });
}

/**
 * When the running server read its files, asked until that is another time than `before`, since a
 * busy one may not answer at once. Null where it does not say so in time, or nobody tells.
 */
async function loadedAt({ monitoringUrl }: Door, before: string | null): Promise<string | null> {
  const untilMs = systemClock.monotonic() + RELOAD_MS;
  while (monitoringUrl !== null && systemClock.monotonic() < untilMs) {
    const at = (await readVarz(monitoringUrl))?.config_load_time ?? null;
    if (at !== null && at !== before) return at;
    await systemClock.sleep(POLL_MS);
  }
  return null;
}
