/**
 * Where a build's project and its attempts lie on the disk, and the names of their git references.
 *
 *     <data>/projects/<name>-<build>            the project, branch main checked out
 *     <data>/worktrees/<build>/<task>.<attempt> an attempt, branch attempt/<task>.<attempt>
 *     <data>/scratch/                           half-made things; everything in it may be deleted
 *
 * L1: ids come from `protocol/ids.ts`, parsed: no id can hold a slash, a dot or a leading dash.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { CodeGodError } from '../../../protocol/errors.ts';
import type { BuildId } from '../../../protocol/ids.ts';
import type { AttemptScope } from '../../../protocol/mcp.ts';
import { isErrno } from './disk.ts';
import type { GitPlace } from './git.ts';

export const MAIN = 'refs/heads/main';

/** Where everything of the gateway's workspaces lies; built once from the data directory. */
export interface WorkspaceRoots {
  readonly projects: string;
  readonly worktrees: string;
  readonly scratch: string;
}

export function workspaceRoots(dataDir: string): WorkspaceRoots {
  return {
    projects: join(dataDir, 'projects'),
    worktrees: join(dataDir, 'worktrees'),
    scratch: join(dataDir, 'scratch'),
  };
}

/** A project's repository; without a work tree where only its objects are wanted. */
export interface Project {
  readonly path: string;
  readonly bare: GitPlace;
  readonly checkout: GitPlace;
}

export function projectAt(path: string): Project {
  const gitDir = join(path, '.git');
  return { path, bare: { gitDir }, checkout: { gitDir, workTree: path } };
}

/** An attempt's names: `leaf` in paths, `branch` and `base` as full references. */
export interface AttemptNames {
  readonly leaf: string;
  readonly path: string;
  readonly branch: string;
  /** Points to the commit the attempt started from; exists once the worktree is complete. */
  readonly base: string;
}

export function attemptNames(roots: WorkspaceRoots, scope: AttemptScope): AttemptNames {
  const leaf = `${scope.task}.${scope.attempt}`;
  return {
    leaf,
    path: join(roots.worktrees, scope.build, leaf),
    branch: `refs/heads/attempt/${leaf}`,
    base: `refs/codegod/base/${leaf}`,
  };
}

/** The git place of an attempt's worktree; its `.git` file is not asked. */
export function attemptPlace(project: Project, names: AttemptNames): GitPlace {
  return { gitDir: join(project.bare.gitDir, 'worktrees', names.leaf), workTree: names.path };
}

export async function findProject(roots: WorkspaceRoots, build: BuildId): Promise<Project | null> {
  const entries = await readdir(roots.projects).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return [];
    throw error;
  });
  const folder = entries.find(entry => !entry.startsWith('.') && entry.endsWith(`-${build}`));
  return folder === undefined ? null : projectAt(join(roots.projects, folder));
}

/** @throws CodeGodError `not_found` */
export async function requireProject(roots: WorkspaceRoots, build: BuildId): Promise<Project> {
  const project = await findProject(roots, build);
  if (project === null) throw new CodeGodError('not_found', `there is no workspace for ${build}`);
  return project;
}
