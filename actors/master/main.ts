/** The process of the master: wiring, no logic. */
import { join } from 'node:path';
import { runActor } from '../../runtime/actor.ts';
import { ensureDoorKey } from '../../runtime/door-key.ts';
import { followAliases } from '../../runtime/live-aliases.ts';
import { release } from '../../runtime/release.ts';
import { Master } from './adapters/master.ts';
import { openDoor } from './adapters/open-door.ts';
import { originsOf } from './http/origins.ts';

/** How long the start waits to lead; a standby is as much at work after it. */
const SETTLE_MS = 3_000;

const version = release();

await runActor({
  name: 'master',
  version,
  description: 'decides: builds, plans, placement',
  async start(context) {
    const { config, paths, clock, log, messenger, metrics } = context;
    const aliases = followAliases({ config, clock, log });
    const master = await Master.start(
      { ...context, aliases: aliases.now },
      join(paths.state, 'master'),
    );
    const door = await openDoor({
      ...{ master, messenger, clock, log, metrics, version },
      ...config.http,
      ownerKey: ensureDoorKey(paths),
      origins: originsOf(config.http.origins, config.ollama.origins),
      isConfigured: config.origins['http.port'] !== 'default',
      waitMaxMs: config.pool.wait_max_s * 1_000,
    });
    await master.settled(SETTLE_MS);
    return {
      details: { http_url: door.url },
      async drain() {
        await Promise.all([door.drain(), master.drain()]);
      },
      async stop() {
        aliases.stop();
        await door.close();
        await master.stop();
      },
    };
  },
});
