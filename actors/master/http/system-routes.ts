/** Routes of the system: nodes, tool servers, health, metrics. */
import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi';
import { BUILD_ENDS, type BuildSummary } from '../../../protocol/build.ts';
import { errorResponses, json, nodesSchema, toolServersSchema } from './answers.ts';
import type { AppOptions } from './app.ts';
import type { Door, NodeEntry } from './door.ts';
import { statisticsOf } from './origin-shapes.ts';

/** Builds looked at for the one global status. */
const STATUS_BUILDS = 50;

export function addSystemRoutes(app: OpenAPIHono, options: AppOptions): void {
  addNodes(app, options);
  addStatus(app, options);
  addHealth(app, options);
  addMetrics(app, options);
}

function addNodes(app: OpenAPIHono, { door }: AppOptions): void {
  app.openapi(
    createRoute({
      method: 'get',
      path: '/nodes',
      summary: 'What each node says of itself',
      responses: { 200: json(nodesSchema, 'nodes'), ...errorResponses },
    }),
    context => context.json({ nodes: [...door.nodes()] }, 200),
  );
  app.openapi(
    createRoute({
      method: 'get',
      path: '/mcp/servers',
      summary: 'Tool servers of all gateways',
      responses: { 200: json(toolServersSchema, 'tool servers'), ...errorResponses },
    }),
    async context => {
      const servers = await door.toolServers();
      const shown = servers.map(server => ({
        ...server,
        installed: server.state !== 'missing',
        running: server.state === 'ready' || server.state === 'idle',
      }));
      return context.json({ servers: shown }, 200);
    },
  );
}

function addStatus(app: OpenAPIHono, { door, version }: AppOptions): void {
  const route = createRoute({
    method: 'get',
    path: '/status',
    summary: 'Everything at a glance',
    responses: { 200: json(z.looseObject({}), 'status'), ...errorResponses },
  });
  app.openapi(route, async context => {
    const { builds } = await door.list(STATUS_BUILDS, null);
    const open = builds.filter(build => !BUILD_ENDS.includes(build.state));
    const shown = open.length > 0 ? open : builds.slice(0, 1);
    const latest = shown[0] ?? null;
    return context.json(
      {
        statistics: statisticsOf(shown),
        project_id: latest?.id ?? null,
        model: latest?.models.at(-1) ?? null,
        backend: backendOf(door),
        version,
        role: door.role(),
        bus: door.bus(),
        builds: { open: open.map(idAndState) },
        nodes: door.nodes().map(({ node, runtime, capacity, gateway }) => ({
          node,
          worker: runtime?.state ?? null,
          monitor: capacity?.state ?? null,
          gateway: gateway?.state ?? null,
        })),
      },
      200,
    );
  });
}

const idAndState = ({ id, state, waiting }: BuildSummary) => ({ id, state, waiting });

/** The engine that would be asked: a real one before the scaffold. */
function backendOf(door: Door): string | null {
  const engines = door
    .nodes()
    .flatMap(({ runtime }) => runtime?.engines ?? [])
    .filter(engine => engine.available && engine.models.length > 0)
    .map(engine => engine.name);
  return engines.find(name => name !== 'scaffold') ?? engines[0] ?? null;
}

function addHealth(app: OpenAPIHono, { door, clock }: AppOptions): void {
  const alive = json(z.object({ status: z.string(), timestamp: z.string() }), 'the process lives');
  for (const path of ['/health', '/healthz'] as const) {
    app.openapi(
      createRoute({ method: 'get', path, summary: 'Liveness', responses: { 200: alive } }),
      context =>
        context.json({ status: 'ok', timestamp: new Date(clock.now()).toISOString() }, 200),
    );
  }
  const readiness = z.object({ ready: z.boolean(), role: z.string(), bus: z.boolean() });
  app.openapi(
    createRoute({
      method: 'get',
      path: '/readyz',
      summary: 'Whether this master leads and has taken up its builds',
      responses: { 200: json(readiness, 'ready'), 503: json(readiness, 'not ready') },
    }),
    context => {
      const role = door.role();
      const { connected } = door.bus();
      const ready = role === 'leading' && connected;
      return context.json({ ready, role, bus: connected }, ready ? 200 : 503);
    },
  );
}

/** One that went away is listed without an advert. */
const isHeardOf = ({ capacity, runtime, gateway }: NodeEntry): boolean =>
  (capacity ?? runtime ?? gateway) !== null;

function addMetrics(app: OpenAPIHono, { door, metrics }: AppOptions): void {
  const nodes = metrics.gauge('codegod_nodes', 'nodes that are heard of');
  const leading = metrics.gauge('codegod_master_leading', '1 while this master leads');
  const builds = metrics.gauge('codegod_builds_open', 'builds that have not ended');
  app.get('/metrics', async context => {
    const { builds: page } = await door.list(STATUS_BUILDS, null);
    nodes.set(door.nodes().filter(isHeardOf).length);
    leading.set(door.role() === 'leading' ? 1 : 0);
    builds.set(page.filter(build => !BUILD_ENDS.includes(build.state)).length);
    return context.text(await metrics.text(), 200, { 'content-type': metrics.contentType });
  });
}
