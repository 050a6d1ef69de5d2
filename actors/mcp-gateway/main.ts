/** The mcp-gateway's process: tool servers, workspaces, git and the sandbox behind bus subjects. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { GatewayId } from '../../protocol/ids.ts';
import type { CheckRequest } from '../../protocol/workspace.ts';
import { type ActorContext, type RunningActor, runActor } from '../../runtime/actor.ts';
import { type Config, envFor, wholeEnvironment } from '../../runtime/config.ts';
import { findPython } from '../../runtime/find-python.ts';
import { openJournal } from '../../runtime/journal.ts';
import { GATEWAY_KEYS } from '../../runtime/journal-keys.ts';
import { release } from '../../runtime/release.ts';
import { emptyFolder } from '../../runtime/remove-tree.ts';
import { ensureStores } from '../../runtime/stores.ts';
import { ensureEnvironment, findEnvironment } from '../../runtime/tools-environment.ts';
import { storeArchive } from './adapters/archive-store.ts';
import { createArgumentSchemas } from './adapters/argument-schemas.ts';
import { attemptNodes } from './adapters/attempt-nodes.ts';
import { buildFates } from './adapters/build-fate.ts';
import { buildLeftovers, sweepLeftovers } from './adapters/build-leftovers.ts';
import { openBuildMemories } from './adapters/build-memories.ts';
import { createCheck } from './adapters/check.ts';
import { resolveHost, startEgressProxy } from './adapters/egress-proxy.ts';
import { createGit } from './adapters/git.ts';
import { projectAuthors } from './adapters/project-authors.ts';
import { openSandbox } from './adapters/sandbox-setup.ts';
import { viewForCheck } from './adapters/sandbox-view.ts';
import { createSyntaxCheck } from './adapters/syntax-check.ts';
import { createToolCache } from './adapters/tool-cache.ts';
import { createCallTool } from './adapters/tool-calls.ts';
import { listTools } from './adapters/tool-list.ts';
import { createToolPins } from './adapters/tool-pins.ts';
import { createToolServers } from './adapters/tool-servers.ts';
import { createWorkspaces } from './adapters/workspace.ts';
import { workspaceRoots } from './adapters/workspace-place.ts';
import { CATALOG, type CatalogEntry, configuredEntry } from './catalog.ts';
import { advertise, serveGateway } from './gateway.ts';

/** What a server with business outside may know of this machine's way there. */
const NETWORK_VARIABLES = [
  ...['HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY', 'http_proxy', 'https_proxy', 'no_proxy'],
  ...['SSL_CERT_FILE', 'SSL_CERT_DIR', 'NODE_EXTRA_CA_CERTS', 'REQUESTS_CA_BUNDLE'],
];

await runActor({
  name: 'mcp-gateway',
  version: release(),
  description: 'runs tool calls, keeps projects and checks them in a sandbox',
  start,
});

function catalogOf(config: Config): readonly CatalogEntry[] {
  const configured = Object.entries(config.mcp.servers);
  return [...CATALOG, ...configured.map(([name, server]) => configuredEntry(name, server))];
}

function placesOf(worktrees: string, data: string, proxy: string) {
  return { worktrees, memory: join(data, 'memory.jsonl'), proxy };
}

async function start(context: ActorContext): Promise<RunningActor> {
  const { config, paths, clock, log, messenger } = context;
  await ensureStores(context.bus);
  const { PATH: path = '/usr/local/bin:/usr/bin:/bin' } = envFor(['PATH']);
  const roots = workspaceRoots(paths.data);
  // The journal is held by one process at a time: what lies half-made is of an earlier life.
  const kept = join(paths.state, 'mcp-gateway', 'journal');
  const journal = await openJournal(kept, log, GATEWAY_KEYS);
  await emptyFolder(roots.scratch, log);
  const home = join(paths.state, 'mcp-gateway', 'home');
  await Promise.all(
    [home, roots.scratch, roots.worktrees].map(dir => mkdir(dir, { recursive: true })),
  );
  const git = createGit({ path, now: () => clock.now() });
  // The git server insists on a repository above all worktrees that it is allowed to touch.
  await git.run(null, ['init', '--quiet', '--template=', roots.worktrees]);
  const environments = join(paths.data, 'environments');
  const env = wholeEnvironment();
  const tools = findEnvironment({ name: 'tools', dir: environments })?.python ?? null;
  const confiner = tools ?? (await findPython(env, []))?.path ?? null;
  const proxy = await startEgressProxy();
  const memories = await openBuildMemories(join(paths.data, 'memories'));
  const servers = createToolServers({
    entries: catalogOf(config),
    host: {
      node: process.execPath,
      python: tools,
      confiner,
      path,
      networkEnvironment: envFor(NETWORK_VARIABLES),
      home,
      places: placesOf(roots.worktrees, paths.data, proxy.url),
    },
    placesOf: memories.placesOf,
    cache: createToolCache(join(paths.cache, 'tools')),
    pins: createToolPins(join(paths.data, 'tool-pins')),
    clock,
    log,
  });
  const sandbox = await openSandbox({
    ...{ wanted: config.sandbox, scratch: roots.scratch, path, python: confiner },
    ...{ clock, log, env },
  });
  const python = () => findEnvironment({ name: 'checks', dir: environments })?.python ?? confiner;
  const parsing = { sandbox: sandbox.current, scratch: roots.scratch, log, python };
  const workspaces = createWorkspaces(git, roots, createSyntaxCheck({ ...parsing, path }));
  const viewFor = (request: CheckRequest) =>
    viewForCheck(request, process.execPath, () => checksPython(environments, env));
  const status = async () => ({ servers: await servers.status() });
  const authors = projectAuthors(journal, context.node);
  const fateOf = buildFates(context.bus.streams);
  const leftovers = buildLeftovers({ journal, workspaces, memories, servers, fateOf, clock, log });
  const served = serveGateway(messenger, GatewayId.parse(context.node), {
    givenTo: attemptNodes(context.bus.streams),
    authors,
    workspaces,
    check: createCheck({
      ...{ workspaces, journal, viewFor, scratch: roots.scratch, sandbox: sandbox.current },
      mayRunBare: async build => config.sandbox === 'none' || (await authors.isOurs(build)),
    }),
    archive: build => storeArchive(workspaces, context.bus, build),
    finish: build => leftovers.finish(build),
    call: createCallTool({
      ...{ servers, workspaces, journal, log, resolve: resolveHost },
      schemas: createArgumentSchemas(),
    }),
    list: (request, signal) => listTools(servers, request, signal),
    status,
  });
  const advert = advertise({ ...context, sandbox: () => sandbox.current().rung, status });
  const sweeping = sweepLeftovers(leftovers, clock);
  return {
    details: { sandbox_bounds: sandbox.bounds },
    drain: () => served.stop(),
    stop: async () => {
      await Promise.all([sweeping.stop(), advert.stop()]);
      await servers.close();
      await proxy.close();
      await journal.close();
    },
  };
}

const checksPython = async (dir: string, env: NodeJS.ProcessEnv): Promise<string> =>
  (await ensureEnvironment({ name: 'checks', dir, env })).python;
