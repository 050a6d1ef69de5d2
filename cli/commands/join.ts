/**
 * `join URL --token SU…`: makes this machine a node of the bus of another one, and starts it.
 *
 * J1  Nothing is kept before the other machine has let us in.
 * J2  The seed lies in a private file; no process is started with it as an argument, and nothing
 *     logs it. Given as an argument it is taken out of our own list of arguments at once (`codegod`,
 *     the shim, does so before anything else); the shell's own history is the user's to clear. It
 *     may as well be piped in, stand in a file or in CODEGOD_JOIN_TOKEN, or be typed.
 * J3  The node's id comes with the token and is kept with it. An id that another living machine uses
 *     is refused: two machines under one id would take each other's work.
 * J4  `joined.yaml` is written last: where it lies, everything it names lies too.
 */
import { mkdirSync, rmSync } from 'node:fs';
import { join as joinPath } from 'node:path';
import { stringify } from 'yaml';
import { CodeGodError } from '../../protocol/errors.ts';
import { type Config, joinedFile } from '../../runtime/config.ts';
import { takeVariable } from '../../runtime/config-environment.ts';
import { publicKeyOf } from '../../runtime/nats-keys.ts';
import { replaceFile } from '../../runtime/nats-server/configure.ts';
import { lastEpoch } from '../../runtime/node-identity.ts';
import { ensurePaths, type Paths } from '../../runtime/paths.ts';
import { release } from '../../runtime/release.ts';
import type { CommandContext } from '../context.ts';
import { CliError } from '../exit-code.ts';
import { CLOCK_SKEW_MAX_MS, type Hub, lookAtHub } from '../hub.ts';
import { readSecret, readSecretFile } from '../secret-input.ts';
import { runningSystem } from '../supervisor/system-record.ts';
import { up } from './up.ts';

export interface JoinOptions {
  readonly token?: string;
  readonly tokenFile?: string;
  readonly name?: string;
  readonly detach: boolean;
  readonly labels?: Readonly<Record<string, string>>;
}

export async function join(
  context: CommandContext,
  url: string,
  options: JoinOptions,
): Promise<number> {
  process.title = 'codegod join'; // J2: the arguments are not for everybody who lists processes.
  const config = await context.config();
  const seed = (await tokenOf(options)).trim();
  publicKeyOf(seed, '--token');
  const address = normalized(url);
  refuseRunning(config);
  const hub = await lookAtHub({ url: address, seed });
  await refuseUnfit(config, hub, options.name);
  tellDifferences(context, hub);
  keep(config.paths, address, seed, hub, options.labels);
  const joined = await reloadOrForget(context, config.paths);
  if (joined.bus.url !== address || joined.node.name !== hub.node) {
    const origin = joined.origins[joined.bus.url === address ? 'node.name' : 'bus.url'];
    throw new CodeGodError('config_invalid', `${origin} wins over what was joined`, {
      hint: 'leave that setting out and run `codegod up`',
    });
  }
  context.terminal.note(`joined ${address} as ${hub.node}`);
  return await up(context, { detach: options.detach });
}

/** J2. */
async function tokenOf({ token, tokenFile }: JoinOptions): Promise<string> {
  const told = takeVariable('CODEGOD_JOIN_TOKEN');
  if (token !== undefined && token !== '-') return token;
  if (tokenFile !== undefined) return readSecretFile(tokenFile);
  if (token === undefined && told !== undefined) return told;
  if (token === '-' || process.stdin.isTTY) return await readSecret('token: ');
  throw new CliError('usage', 'a token is needed', '--token SU…, --token - or --token-file FILE');
}

/** What was kept may not be valid together with the other settings, or its labels not at all. */
async function reloadOrForget(context: CommandContext, paths: Paths): Promise<Config> {
  try {
    return await context.reloadConfig();
  } catch (error) {
    forget(paths);
    throw error;
  }
}

/** Forgets the bus of the other machine. */
export function forget(paths: Paths): void {
  rmSync(joinedFile(paths), { force: true });
  rmSync(seedFile(paths), { force: true });
}

const seedFile = (paths: Paths): string => joinPath(paths.config, 'joined.nk');

function normalized(url: string): string {
  const address = url.includes('://') ? url : `nats://${url}`;
  if (!URL.canParse(address) || !/^(nats|tls):$/.test(new URL(address).protocol)) {
    throw new CliError('usage', `${url} is no address of a bus`, 'nats://HOST:4222');
  }
  const { protocol, hostname, port } = new URL(address);
  return `${protocol}//${hostname}:${port || 4222}`;
}

function refuseRunning(config: Config): void {
  const running = runningSystem(config.paths.state);
  if (running === null) return;
  throw new CodeGodError('conflict', `a system runs here, on ${running.bus.url}`, {
    hint: '`codegod down` stops it; its projects and builds stay on disk',
  });
}

/** J3, and what else makes a node of no use. */
async function refuseUnfit(config: Config, hub: Hub, name: string | undefined): Promise<void> {
  if (name !== undefined && name !== hub.node) {
    throw new CodeGodError('conflict', `this token admits the node ${hub.node}, not ${name}`, {
      hint: `leave out --name, or make a token with \`codegod token create --name ${name}\``,
    });
  }
  for (const { process, epoch, host } of hub.adverts) {
    // Our own advert outlives a crash by some seconds, with the epoch that we have on disk.
    if ((await lastEpoch(config.paths.state, process)) === epoch) continue;
    throw new CodeGodError('conflict', `another machine (${host}) is the node ${hub.node} now`, {
      hint: 'a token is for one machine: make another with `codegod token create`',
    });
  }
  if (hub.attestation?.sync_always === true) return;
  throw new CodeGodError('durability_refused', 'nobody there says that the bus syncs to disk', {
    hint: 'look at `codegod status` on that machine: its actors say so when they are ready',
  });
}

function tellDifferences({ terminal }: CommandContext, hub: Hub): void {
  const theirs = hub.attestation?.release;
  if (theirs !== undefined && theirs !== release()) {
    terminal.note(
      `warning: this is Code-God ${release()}, the other machine runs ${theirs}: bring both to the same release`,
    );
  }
  const skew = hub.clock_skew_ms;
  if (Math.abs(skew) > CLOCK_SKEW_MAX_MS) {
    const how = skew > 0 ? 'behind' : 'ahead of';
    const seconds = (Math.abs(skew) / 1_000).toFixed(1);
    terminal.note(
      `warning: the clock of this machine is ${seconds} s ${how} that of the other: deadlines will be wrong; set both by NTP`,
    );
  }
}

/** J4. */
function keep(
  paths: Paths,
  url: string,
  seed: string,
  hub: Hub,
  labels: Readonly<Record<string, string>> | undefined,
): void {
  ensurePaths(paths);
  mkdirSync(paths.config, { recursive: true, mode: 0o700 });
  replaceFile(seedFile(paths), `${seed}\n`);
  const settings = {
    bus: { url, joined: true, nkey_file: seedFile(paths) },
    node: { name: hub.node, ...(labels === undefined ? {} : { labels }) },
  };
  const head = '# Written by `codegod join`; `codegod leave` removes it.\n';
  replaceFile(joinedFile(paths), head + stringify(settings));
}
