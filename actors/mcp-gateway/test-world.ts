/** What the tests of this room share: a temp folder that goes away, real git, a real workspace. */
import { mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { TestContext } from 'node:test';
import { execa } from 'execa';
import { Attempt, BuildId, TaskId } from '../../protocol/ids.ts';
import type { AttemptScope } from '../../protocol/mcp.ts';
import { createGit, gitEnvironment } from './adapters/git.ts';
import { createWorkspaces } from './adapters/workspace.ts';
import { workspaceRoots } from './adapters/workspace-place.ts';

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

export async function write(root: string, files: Readonly<Record<string, string>>): Promise<void> {
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), text);
  }
}

/** Whether a process runs; one that waits to be reaped does not. */
export async function isAlive(pid: number): Promise<boolean> {
  const { stdout } = await execa('ps', ['-o', 'stat=', '-p', String(pid)], { reject: false });
  return stdout.trim() !== '' && !stdout.trim().startsWith('Z');
}

/** The git program as a person would use it in `cwd`, for looking at what was made. */
export async function gitIn(cwd: string, ...args: string[]): Promise<string> {
  const options = { cwd, env: gitEnvironment(TEST_PATH), extendEnv: false };
  return (await execa('git', args, options)).stdout;
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
