/**
 * A finished project as one file: a tar.gz of a clean clone, with its history and nothing else: no
 * remote, no branches of attempts, no hooks, no logs.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, mkdtemp, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { CodeGodError } from '../../../protocol/errors.ts';
import { removeTree } from '../../../runtime/remove-tree.ts';
import { runProgram } from '../../../runtime/run-program.ts';
import { diskFull } from './disk.ts';
import type { Git } from './git.ts';
import { MAIN, type Project, projectAt, type WorkspaceRoots } from './workspace-place.ts';

export interface Archive {
  /** The tar.gz; `folder` holds it and is removed by the caller. */
  readonly file: string;
  readonly folder: string;
  readonly name: string;
  readonly size: number;
  readonly sha256: string;
  readonly head: string;
  readonly files: { readonly path: string; readonly size: number }[];
}

const TAR_TIMEOUT_MS = 300_000;

export async function archiveProject(
  git: Git,
  roots: WorkspaceRoots,
  project: Project,
): Promise<Archive> {
  await mkdir(roots.scratch, { recursive: true });
  const folder = await mkdtemp(join(roots.scratch, 'archive-'));
  try {
    const name = basename(project.path);
    const clone = await cleanClone(git, project, join(folder, name));
    const head = await git.text(clone.bare, ['rev-parse', MAIN]);
    const file = join(folder, `${name}.tar.gz`);
    await pack(folder, name, file);
    const sha256 = await digest(file);
    const { size } = await stat(file);
    return {
      file,
      folder,
      name: `${name}.tar.gz`,
      size,
      sha256,
      head,
      files: await list(git, clone),
    };
  } catch (error) {
    await removeTree(folder);
    throw error;
  }
}

async function cleanClone(git: Git, project: Project, target: string): Promise<Project> {
  const from = `file://${project.path}`;
  const flags = ['--quiet', '--template=', '--single-branch', '--branch=main', '--no-tags'];
  await git.run(null, ['clone', ...flags, from, target]);
  const clone = projectAt(target);
  await git.run(clone.bare, ['remote', 'remove', 'origin']);
  // Git forgets this one with a single branch, and fsck then finds a reference to nothing.
  await git.run(clone.bare, ['update-ref', '--no-deref', '-d', 'refs/remotes/origin/HEAD']);
  return clone;
}

async function list(git: Git, clone: Project): Promise<{ path: string; size: number }[]> {
  const args = ['ls-tree', '-r', '-z', '--format=%(objectsize) %(path)', MAIN];
  const entries = (await git.text(clone.bare, args)).split('\0').filter(entry => entry !== '');
  return entries.map(entry => {
    const blank = entry.indexOf(' ');
    return { path: entry.slice(blank + 1), size: Number(entry.slice(0, blank)) };
  });
}

/** The members in a fixed order and without the owner of this machine, where tar can do that. */
async function pack(folder: string, name: string, file: string): Promise<void> {
  const version = await runProgram('tar', ['--version'], { timeoutMs: TAR_TIMEOUT_MS });
  const gnu = version.stdout.includes('GNU');
  const fixed = gnu ? ['--sort=name', '--owner=0', '--group=0', '--numeric-owner'] : [];
  const result = await runProgram('tar', [...fixed, '-czf', file, '-C', folder, name], {
    timeoutMs: TAR_TIMEOUT_MS,
  });
  if (result.exitCode === 0) return;
  if (/no space left/i.test(result.stderr)) throw diskFull('packing', result.stderr);
  throw new CodeGodError('internal', `tar failed: ${result.failure?.slice(-500)}`);
}

async function digest(file: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file)) hash.update(chunk);
  return hash.digest('hex');
}
