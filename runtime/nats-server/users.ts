/**
 * Who may connect to the bus server of this machine, and how a running server is told that this has
 * changed.
 *
 *   the owner      by the key of this machine, with all rights
 *   a joined node  by the key of its token, with the rights of a node (node-permissions.ts)
 *   a visitor      any other program of this machine, where the bus listens on loopback only: it may
 *                  hand in builds and ask who is there
 *   `bus.token`    where one is configured: whoever presents it, with all rights, and nobody else
 *
 * U1  The server's files hold public keys; the seed of this machine's own key lies in a private file
 *     of its own, made at first need.
 * U2  There is no combination of settings under which somebody without a key may do more than a
 *     visitor, and none under which a visitor comes from another machine.
 * U3  A visitor may not listen where answers to the owner and to nodes go: theirs carry their
 *     key (`inboxOf`) and are kept back from him.
 * U4  An expired token is no user. The supervisor looks again and again, and also makes good what a
 *     command that died half-way did not tell the server.
 */
import { createHash } from 'node:crypto';
import { linkSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CodeGodError } from '../../protocol/errors.ts';
import { systemClock } from '../clock.ts';
import { createUserKey, publicKeyOf } from '../nats-keys.ts';
import { readIfThere } from '../read-if-there.ts';
import { quote, replaceFile } from './configure.ts';
import { isExpired, lockTokens, readTokens } from './join-tokens.ts';
import {
  inboxOf,
  nodePermissions,
  type Permissions,
  visitorPermissions,
} from './node-permissions.ts';
import { runningPid, serverFile } from './orphan.ts';
import { readVarz } from './verify.ts';

/** How long a node may take over one answer, such as a long generation. */
const ANSWER_MAX = '1h';
/** Whoever presents nothing is taken for this user; nobody is told his password. */
const VISITOR = 'visitor';

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
  const tokens = (readTokens(configDir) ?? []).filter(one => !isExpired(one, now)); // U4
  const owner = publicKeyOf(ensureOwnerKey(configDir), ownerKeyFile(configDir));
  const answers = `allow_responses: { max: -1, expires: ${quote(ANSWER_MAX)} }`;
  const nodes = tokens.map(({ node, public_key }) =>
    user(`nkey: ${public_key}`, nodePermissions(node, public_key), answers),
  );
  const visitors = isLoopback(host); // U2
  const keys = tokens.map(({ public_key }) => public_key);
  const inboxes = ['owner', owner, ...keys].map(inboxOf); // U3
  // The server wants a password; it is known to nobody, and another at each writing would be a change.
  const unknown = createHash('sha256').update(ensureOwnerKey(configDir)).digest('hex');
  const visitor = user(`user: ${VISITOR}, password: "${unknown}"`, visitorPermissions(inboxes), '');
  return [
    'authorization { users: [',
    `  { nkey: ${owner} }`,
    ...(visitors ? [visitor] : []),
    ...nodes,
    '] }',
    ...(visitors ? [`no_auth_user: ${VISITOR}`] : []),
    '',
  ].join('\n');
}

const user = (name: string, { publish, subscribe, unheard }: Permissions, more: string): string =>
  [
    `  { ${name}, permissions: {`,
    `    publish: { allow: [${publish.map(quote).join(', ')}] }`,
    `    subscribe: { allow: [${subscribe.map(quote).join(', ')}]${
      unheard === undefined ? '' : `, deny: [${unheard.map(quote).join(', ')}]`
    } }`,
    ...(more === '' ? [] : [`    ${more}`]),
    '  } }',
  ].join('\n');

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
