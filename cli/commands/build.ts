/**
 * `build PROMPT`: publishes the request, follows the build to its end and shows what came out.
 *
 * B1  The request is stored once: every try carries the same `Nats-Msg-Id`.
 * B2  Where no system runs, one is started for this build only. Whatever ends it early, the build
 *     stays in the store and goes on with the next `up` or `build` of this home.
 * B3  A system that belongs to another `build` may end before ours is done: then we start our own
 *     and go on with the same build from the same place in its log.
 */
import { randomUUID } from 'node:crypto';
import type { BuildRequest } from '../../protocol/build.ts';
import { systemClock } from '../../runtime/clock.ts';
import type { Config } from '../../runtime/config.ts';
import { publishBuild } from '../build-follow.ts';
import { showProgress } from '../build-progress.ts';
import { type BuildOptions, readRequest } from '../build-request.ts';
import { type BuildRun, followBuild } from '../build-run.ts';
import { busUrl, withBus } from '../bus-session.ts';
import type { CommandContext } from '../context.ts';
import { CliError, EXIT } from '../exit-code.ts';
import { checkTarget } from '../project-out.ts';
import { onStopSignals } from '../stop-signals.ts';
import { withSystem } from '../supervisor/system.ts';
import { runningSystem } from '../supervisor/system-record.ts';
import { ensureDetached } from './up.ts';

const EPHEMERAL =
  'no system runs here: one is started for this build only (`codegod up` keeps one)';
const OTHER_READY_MS = 120_000;
const POLL_MS = 100;
const HELD_PAUSE_MS = 250;
const HELD_MAX_MS = 600_000;
/** Systems that may vanish under one build before it is given up. */
const SYSTEMS_MAX = 10;

export async function build(
  context: CommandContext,
  words: readonly string[],
  options: BuildOptions,
): Promise<number> {
  const config = bareWhereAsked(await context.config(), options.sandbox);
  const request = await readRequest(words, options);
  if (options.out !== undefined) checkTarget(options.out, options.name);
  const publishId = randomUUID(); // B1
  if (options.detach) return await detach(context, config, request, publishId);
  const run: BuildRun = {
    config,
    terminal: context.terminal,
    actors: context.actors,
    options,
    request,
    publishId,
    progress: await showProgress(context.terminal),
    startedAt: systemClock.monotonic(),
    build: null,
    nextSeq: 1,
  };
  try {
    const deadline = systemClock.monotonic() + HELD_MAX_MS;
    for (let systems = 0; systems < SYSTEMS_MAX; ) {
      const code = await followSomewhere(run);
      if (typeof code === 'number') return code;
      if (code === 'held' && systemClock.monotonic() < deadline) continue;
      systems++;
      run.progress.say('the system that ran this build has ended; going on with another one'); // B3
    }
    throw new CliError('bus_unavailable', 'the system keeps vanishing', '`codegod doctor`');
  } finally {
    run.progress.end();
  }
}

/**
 * With `--no-sandbox` the system that this command starts is told so, as in its configuration. One that
 * runs already is not: what runs unconfined on a machine is for its owner to say, not for a request.
 */
function bareWhereAsked(config: Config, sandbox: boolean): Config {
  if (sandbox || config.sandbox === 'none') return config;
  if (busUrl(config) !== null) {
    throw new CliError(
      'usage',
      'the system that runs already decides about its sandbox',
      BARE_HINT,
    );
  }
  return { ...config, sandbox: 'none', origins: { ...config.origins, sandbox: 'flag' } };
}

const BARE_HINT = 'put `sandbox: none` into config.yaml, then `codegod down && codegod up -d`';

/** Follows the build on the system there is, or on one of its own (B2). */
async function followSomewhere(run: BuildRun): Promise<number | 'lost' | 'held'> {
  const { config } = run;
  await otherReady(config);
  if (busUrl(config) !== null) {
    const mode = runningSystem(config.paths.state)?.mode;
    if (mode === undefined) return await followBuild(run, 'foreign');
    return await followBuild(run, mode === 'ephemeral' ? 'borrowed' : 'persistent');
  }
  const stop = new AbortController();
  let isFollowing = false;
  // While the build is followed, Ctrl-C is about the build; while the system stops, it is late.
  const release = onStopSignals(() => {
    if (!isFollowing) stop.abort(new CliError('interrupted', 'interrupted'));
  });
  try {
    const code = await withSystem(
      {
        config,
        mode: 'ephemeral',
        signal: stop.signal,
        actors: run.actors,
        onBegin: () => run.progress.say(EPHEMERAL),
        onProgress: sentence => run.progress.say(sentence),
      },
      async system => {
        await system.ready(stop.signal);
        isFollowing = true;
        return await followBuild(run, 'ephemeral');
      },
    );
    if (code !== null) return code;
    // Another command holds this home and is about to start its bus, or to end.
    await systemClock.sleep(HELD_PAUSE_MS, stop.signal);
    return 'held';
  } finally {
    release();
  }
}

/** A system that another command is just starting is waited for. */
async function otherReady(config: Config): Promise<void> {
  const deadline = systemClock.monotonic() + OTHER_READY_MS;
  while (runningSystem(config.paths.state)?.state === 'starting') {
    if (systemClock.monotonic() > deadline) return;
    await systemClock.sleep(POLL_MS);
  }
}

async function detach(
  context: CommandContext,
  config: Config,
  request: BuildRequest,
  publishId: string,
): Promise<number> {
  const { terminal } = context;
  if (busUrl(config) === null) {
    terminal.note('no system runs here: starting one with `codegod up -d`');
    await ensureDetached(context, config);
  }
  const id = await withBus(config, ({ messenger }) => publishBuild(messenger, request, publishId));
  terminal.result({ id }, () => `${id}\nfollow it with \`codegod logs ${id} -f\``);
  return EXIT.ok;
}
