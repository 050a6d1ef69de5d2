/**
 * What this gateway keeps of builds, and its end: worktrees and their references, records of calls,
 * results of checks, memory graphs, who wrote the project. The master has them removed at the end of
 * a build. What that did not reach (its request failed, the project was moved away, the bus has lost
 * its store) is found here, again and again.
 *
 * L1: of a build that has ended everything goes but the note of who wrote it, which a retry needs. Of
 *     one that the bus does not know all goes, once that has been so for a week: its store may come back.
 * L2: looked up and removed in the build's turn: what is retried meanwhile waits, and begins anew.
 * L3: projects are people's and stay. So does what is no name of a build; it is said.
 * L4: every step may be the last one of this process, or come twice: what shows that there is
 *     something to remove goes last.
 */
import { toWireError } from '../../../protocol/errors.ts';
import { buildKey, buildOfKey, type StampedBuild } from '../../../protocol/ids.ts';
import type { Clock } from '../../../runtime/clock.ts';
import { settledWithin } from '../../../runtime/durable-effects.ts';
import type { Journal } from '../../../runtime/journal.ts';
import { GATEWAY_KEYS as KEYS } from '../../../runtime/journal-keys.ts';
import type { Logger } from '../../../runtime/log.ts';
import type { FateOf } from './build-fate.ts';
import type { BuildMemories } from './build-memories.ts';
import type { ToolServers } from './tool-servers.ts';
import type { Workspaces } from './workspace.ts';

export interface LeftoversOptions {
  readonly journal: Pick<Journal, 'get' | 'put' | 'batch' | 'keys'>;
  readonly workspaces: Pick<Workspaces, 'finish' | 'kept'>;
  readonly memories: BuildMemories;
  readonly servers: Pick<ToolServers, 'forget'>;
  readonly fateOf: FateOf;
  readonly clock: Clock;
  readonly log: Pick<Logger, 'info' | 'warn'>;
}

export interface Leftovers {
  /** At the end of a build. */
  finish(build: StampedBuild): Promise<void>;
  /** One round; never rejects. Rounds go on where the last one stopped. */
  sweep(signal: AbortSignal): Promise<void>;
}

const SWEEP_EVERY_MS = 600_000;
const STOP_MS = 2_000;
/** Each is a few questions to the bus. */
const BUILDS_PER_SWEEP = 256;
const UNKNOWN_MS = 7 * 24 * 3_600_000;
const KEYS_PER_BATCH = 1_000;
/** Under these nothing is left once a build has ended. */
const WORKING_KEYS = [KEYS.calls, KEYS.checks] as const;
/** Under these there is one key per build (L1). */
const NOTES = [KEYS.authors, KEYS.unknown] as const;

export function buildLeftovers(options: LeftoversOptions): Leftovers {
  const told = new Set<string>();
  let last = '';
  return {
    finish: build => remove(options, build, async () => true),
    async sweep(signal) {
      const { log } = options;
      try {
        const found = await keptOf(options);
        const names = [...found.keys()].sort();
        const ahead = names.filter(name => name > last);
        const round = [...ahead, ...names.slice(0, names.length - ahead.length)];
        for (const name of round.slice(0, BUILDS_PER_SWEEP)) {
          if (signal.aborted) return;
          last = name;
          const build = buildOfKey(name);
          if (build !== null) await lookAt(options, build, found.get(name) === 'at work');
          else if (!told.has(name)) log.warn('leftovers.unfit', { name }); // L3
          if (build === null) told.add(name);
        }
      } catch (error) {
        log.warn('leftovers.not_looked_at', { error: toWireError(error) }); // The next round.
      }
    },
  };
}

/** Sweeps at once and then every ten minutes, beside everything else. */
export function sweepLeftovers(leftovers: Leftovers, clock: Clock): { stop(): Promise<void> } {
  const over = new AbortController();
  const loop = async (): Promise<void> => {
    while (!over.signal.aborted) {
      await leftovers.sweep(over.signal);
      // Woken early means that it is over, which the loop looks at next.
      await clock.sleep(SWEEP_EVERY_MS, over.signal).catch(() => undefined);
    }
  };
  const running = loop();
  return {
    async stop() {
      over.abort();
      // A bus that is away is not waited for.
      await settledWithin(clock, STOP_MS, [running]);
    },
  };
}

/** Names under which something is kept: more than notes, or those alone. */
async function keptOf(options: LeftoversOptions): Promise<Map<string, 'at work' | 'notes'>> {
  const { journal, workspaces, memories } = options;
  const found = new Map<string, 'at work' | 'notes'>();
  for (const prefix of NOTES) {
    for await (const name of namesUnder(journal, prefix)) found.set(name, 'notes');
  }
  for (const prefix of WORKING_KEYS) {
    for await (const name of namesUnder(journal, prefix)) found.set(name, 'at work');
  }
  for (const name of [...(await workspaces.kept()), ...(await memories.kept())]) {
    found.set(name, 'at work');
  }
  return found;
}

/** The first part of each key, without reading all keys of each build. */
async function* namesUnder(
  journal: LeftoversOptions['journal'],
  prefix: string,
): AsyncIterable<string> {
  for (let after = ''; ; ) {
    let next: string | undefined;
    for await (const key of journal.keys(prefix, after)) {
      next = key;
      break;
    }
    if (next === undefined) return;
    const [name = ''] = next.slice(prefix.length).split('.', 1);
    yield name;
    // A dash sorts before a dot: `b7-k3x9a2bc` may lie between `b7` and `b7.`, and must be met.
    after = next === prefix + name ? next : `${prefix}${name}.\u{10ffff}`;
  }
}

async function lookAt(
  options: LeftoversOptions,
  build: StampedBuild,
  isAtWork: boolean,
): Promise<void> {
  const { journal, fateOf, clock, log } = options;
  const name = buildKey(build);
  const unknown = KEYS.unknown + name;
  const fate = await fateOf(build);
  const is = async (): Promise<boolean> => (await fateOf(build)) === fate;
  try {
    const since = await journal.get(unknown);
    if (fate !== 'unknown') {
      if (since !== undefined) await journal.batch([{ type: 'del', key: unknown }]);
      if (fate === 'open' || !isAtWork) return;
      await remove(options, build, is);
    } else if (typeof since !== 'number' || since > clock.now()) {
      await journal.put(unknown, clock.now());
      return;
    } else if (clock.now() - since >= UNKNOWN_MS) {
      await remove(options, build, is, () =>
        journal.batch(NOTES.map(prefix => ({ type: 'del', key: prefix + name }))),
      );
    } else return;
    log.info('leftovers.removed', { build: name, fate });
  } catch (error) {
    log.warn('leftovers.kept', { build: name, error: toWireError(error) }); // The others go on.
  }
}

/** All that a build at work has here (L2, L4). */
async function remove(
  { journal, workspaces, memories, servers }: LeftoversOptions,
  build: StampedBuild,
  mayGo: () => Promise<boolean>,
  last: () => Promise<void> = async () => {},
): Promise<void> {
  const name = buildKey(build);
  await workspaces.finish(build, async dropAttempts => {
    if (!(await mayGo())) return;
    await dropAttempts();
    for (const prefix of WORKING_KEYS) await forget(journal, `${prefix}${name}.`);
    await servers.forget(name);
    await memories.remove(name);
    await last();
  });
}

async function forget(journal: LeftoversOptions['journal'], prefix: string): Promise<void> {
  let keys: string[] = [];
  const flush = async (): Promise<void> => {
    await journal.batch(keys.map(key => ({ type: 'del', key })));
    keys = [];
  };
  for await (const key of journal.keys(prefix)) {
    if (keys.push(key) === KEYS_PER_BATCH) await flush();
  }
  if (keys.length > 0) await flush();
}
