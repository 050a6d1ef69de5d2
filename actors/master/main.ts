/** The process of the master: wiring, no logic. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { runActor } from '../../runtime/actor.ts';
import { packageRoot } from '../../runtime/paths.ts';
import { BusDoor } from './adapters/bus-door.ts';
import { Master } from './adapters/master.ts';
import { createApp } from './http/app.ts';
import { isLoopback } from './http/guards.ts';
import { listen } from './http/listen.ts';

/** How long the start waits to lead; a standby is as much at work after it. */
const SETTLE_MS = 3_000;

const manifest = readFileSync(join(packageRoot(), 'package.json'), 'utf8');
const { version } = JSON.parse(manifest) as { readonly version: string };

await runActor({
  name: 'master',
  version,
  description: 'decides: builds, plans, placement',
  async start(context) {
    const { config, paths, clock, log, messenger, metrics } = context;
    const master = await Master.start(context, join(paths.state, 'master'));
    const { host, port } = config.http;
    const app = createApp({
      door: new BusDoor({ messenger, master, log }),
      clock,
      log,
      metrics,
      version,
      isLoopback: isLoopback(host),
    });
    const isConfigured = config.origins['http.port'] !== 'default';
    const http = await listen(app, { host, port, isConfigured, log });
    await master.settled(SETTLE_MS);
    return {
      details: { http_url: http.url },
      drain: () => master.drain(),
      async stop() {
        await http.close();
        await master.stop();
      },
    };
  },
});
