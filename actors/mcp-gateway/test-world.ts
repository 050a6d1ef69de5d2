/** What the tests of this room share: a temp folder that goes away, real git, real tool servers. */
import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { TestContext } from 'node:test';
import { Attempt, BuildId, BuildStamp, CallId, TaskId } from '../../protocol/ids.ts';
import type { AttemptScope, CallRequest } from '../../protocol/mcp.ts';
import { systemClock } from '../../runtime/clock.ts';
import { loadConfig, wholeEnvironment } from '../../runtime/config.ts';
import { findPython } from '../../runtime/find-python.ts';
import { memoryJournal } from '../../runtime/journal.ts';
import { GATEWAY_KEYS } from '../../runtime/journal-keys.ts';
import { silentLogger } from '../../runtime/log.ts';
import { runProgram } from '../../runtime/run-program.ts';
import { ensureEnvironment } from '../../runtime/tools-environment.ts';
import { createArgumentSchemas } from './adapters/argument-schemas.ts';
import { createGit, gitEnvironment } from './adapters/git.ts';
import { findSandbox, type SandboxOptions } from './adapters/sandbox.ts';
import { sandboxView } from './adapters/sandbox-view.ts';
import { createToolCache } from './adapters/tool-cache.ts';
import { createCallTool } from './adapters/tool-calls.ts';
import { createToolPins } from './adapters/tool-pins.ts';
import { createToolServers } from './adapters/tool-servers.ts';
import { createWorkspaces } from './adapters/workspace.ts';
import { workspaceRoots } from './adapters/workspace-place.ts';
import { CATALOG, type CatalogEntry } from './catalog.ts';

/** A Python, as the gateway finds one; null where there is none. */
export const CONFINER = (await findPython(wholeEnvironment(), []))?.path ?? null;

export const TEST_PATH = '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin';

export async function tempDir(test: TestContext): Promise<string> {
  const folder = await realpath(await mkdtemp(join(tmpdir(), 'codegod-gateway-')));
  test.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

export function scopeOf(task = 'store', attempt = 1, build = 'b7'): AttemptScope {
  return {
    build: BuildId.parse(build),
    task: TaskId.parse(task),
    attempt: Attempt.parse(attempt),
  };
}

/** The same attempt of another build of the same number: the bus had lost its store in between. */
export const stampedScope = (stamp: string, task = 'store', attempt = 1): AttemptScope => ({
  ...scopeOf(task, attempt),
  stamp: BuildStamp.parse(stamp),
});

export async function write(root: string, files: Readonly<Record<string, string>>): Promise<void> {
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), text);
  }
}

/** Whether a process runs; one that waits to be reaped does not. */
export async function isAlive(pid: number): Promise<boolean> {
  const { stdout } = await runProgram('ps', ['-o', 'stat=', '-p', String(pid)], {
    timeoutMs: 10_000,
  });
  return stdout.trim() !== '' && !stdout.trim().startsWith('Z');
}

/** The git program as a person would use it in `cwd`, for looking at what was made. */
export async function gitIn(cwd: string, ...args: string[]): Promise<string> {
  const options = { cwd, env: gitEnvironment(TEST_PATH), timeoutMs: 60_000 };
  const { stdout, failure } = await runProgram('git', args, options);
  assert.equal(failure, null);
  return stdout.replace(/\n$/, '');
}

/** A sandbox, a work folder that its other user can enter, and what a check sees of this machine. */
export async function sandboxWorld(
  test: TestContext,
  options: Pick<SandboxOptions, 'ladder' | 'groups'>,
) {
  const folder = await tempDir(test);
  await chmod(folder, 0o755);
  const work = join(folder, 'work');
  await mkdir(work);
  const sandbox = await findSandbox({
    ...{ scratch: join(folder, 'scratch'), path: TEST_PATH, python: CONFINER },
    ...{ clock: systemClock, ...options },
  });
  const view = await sandboxView({ node: process.execPath, python: null });
  return { work, sandbox, view };
}

export async function workspaceWorld(test: TestContext, folder?: string) {
  const data = folder ?? (await tempDir(test));
  const roots = workspaceRoots(data);
  const git = createGit({ path: TEST_PATH, now: () => Date.now() });
  const workspaces = createWorkspaces(git, roots);
  const build = scopeOf().build;
  const { path, head } = await workspaces.create({ build, name: 'todo' });
  /** Opens an attempt, writes files into it, commits them. */
  const attempt = async (scope: AttemptScope, files: Record<string, string>, owns = ['**']) => {
    const opened = await workspaces.open(scope);
    await write(opened.path, files);
    return workspaces.commit({ ...scope, title: `Do ${scope.task}`, model: 'scaffold', owns });
  };
  return { data, roots, git, workspaces, build, path, head, attempt };
}

/** The interpreter that the Python tool servers run on; installed by the first test that asks. */
export async function toolsPython(): Promise<string> {
  const { paths } = loadConfig({ cwd: tmpdir() });
  const dir = join(paths.data, 'environments');
  return (await ensureEnvironment({ name: 'tools', dir, env: wholeEnvironment() })).python;
}

export interface CallWorldOptions {
  readonly entries?: readonly CatalogEntry[];
  readonly python?: string;
  readonly addresses?: Readonly<Record<string, string>>;
}

/** A workspace with one open attempt, and the call pipeline over real tool servers. */
export async function callWorld(test: TestContext, options: CallWorldOptions = {}) {
  const world = await workspaceWorld(test);
  const { roots, git, workspaces, data } = world;
  const { path: worktree } = await workspaces.open(scopeOf());
  await git.run(null, ['init', '--quiet', '--template=', roots.worktrees]);
  const home = join(data, 'home');
  await mkdir(home);
  const journal = await memoryJournal(GATEWAY_KEYS);
  const servers = createToolServers({
    entries: options.entries ?? CATALOG,
    host: {
      node: process.execPath,
      python: options.python ?? null,
      confiner: CONFINER,
      path: TEST_PATH,
      networkEnvironment: {},
      home,
      places: { worktrees: roots.worktrees, memory: join(data, 'memory.jsonl'), proxy: '' },
    },
    placesOf: build => ({ memory: join(data, `${build}.jsonl`) }),
    cache: createToolCache(join(data, 'tools')),
    pins: createToolPins(join(data, 'pins')),
    clock: systemClock,
    log: silentLogger,
  });
  test.after(() => servers.close());
  const resolve = async (host: string) => [options.addresses?.[host] ?? '93.184.216.34'];
  const make = (kept: Pick<typeof journal, 'get' | 'put'> = journal) =>
    createCallTool({
      servers,
      workspaces,
      schemas: createArgumentSchemas(),
      journal: kept,
      log: silentLogger,
      resolve,
    });
  const callTool = make();
  const never = new AbortController().signal;
  const call = (server: string, tool: string, args: object, extra: Partial<CallRequest> = {}) =>
    callTool(requestOf(server, tool, args, extra), never);
  return { ...world, worktree, servers, journal, make, call };
}

let calls = 0;

export function requestOf(
  server: string,
  tool: string,
  args: object,
  extra: Partial<CallRequest> = {},
): CallRequest {
  calls += 1;
  return {
    call_id: CallId.parse(`b7.store.1.1.${calls}`),
    server,
    tool,
    arguments: { ...args },
    scope: scopeOf(),
    timeout_ms: 20_000,
    ...extra,
  };
}
