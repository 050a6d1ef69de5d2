/**
 * What a call may point at. Servers guard themselves too; this guard does not rely on it.
 *
 * A1: every path of the filesystem and git tools ends, links resolved, in the attempt's own worktree.
 * A2: nothing reaches git's own files, and nothing that git could take for an option is passed on.
 * A3: only public addresses are fetched; names are resolved before they are believed.
 * A4: a pattern of names is one that the server can try on every name: its alternatives multiply, and
 *     its stars try each other's letters, so both are few.
 * A5: a guard answers with the arguments to use, rewritten to absolute real paths, or throws.
 */
import { lstat, realpath } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join, relative, sep } from 'node:path';
import { CodeGodError } from '../../../protocol/errors.ts';
import { PATH_LENGTH_MAX } from '../../../protocol/limits.ts';
import { pathFault } from '../../../protocol/text.ts';
import type { CatalogEntry } from '../catalog.ts';
import { isPublicAddress } from '../private-address.ts';
import { isErrno } from './disk.ts';

export type Arguments = Readonly<Record<string, unknown>>;

/** The addresses of a host name. */
export type Resolve = (host: string) => Promise<readonly string[]>;

export interface GuardOptions {
  readonly guard: CatalogEntry['guard'];
  /** The attempt's worktree; null for a call outside any build. */
  readonly worktree: string | null;
  readonly resolve: Resolve;
}

/** @throws CodeGodError `denied`, with a hint on what would be right. */
export async function guardArguments(args: Arguments, options: GuardOptions): Promise<Arguments> {
  const { guard, worktree } = options;
  if (guard === 'none') return args;
  if (guard === 'fetch') return guardFetch(args, options.resolve);
  if (worktree === null) throw denied('this tool needs a build: it works on files of an attempt');
  const root = await realpath(worktree);
  return guard === 'git' ? guardGit(args, root) : guardFilesystem(args, root);
}

const PATH_ARGUMENTS = ['path', 'source', 'destination'];

async function guardFilesystem(args: Arguments, root: string): Promise<Arguments> {
  const guarded: Record<string, unknown> = { ...args };
  for (const name of PATH_ARGUMENTS) {
    if (args[name] !== undefined) guarded[name] = await insidePath(name, args[name], root);
  }
  if (Array.isArray(args['paths'])) {
    guarded['paths'] = await Promise.all(
      args['paths'].map(path => insidePath('paths', path, root)),
    );
  }
  const excluded = args['excludePatterns'];
  const patterns = [args['pattern'], ...(Array.isArray(excluded) ? excluded : [])];
  for (const pattern of patterns) if (typeof pattern === 'string') checkPattern(pattern); // A4
  return guarded;
}

const PATTERN_LENGTH_MAX = 240;
const BRACES_MAX = 2;
const STARS_MAX = 4;

/** A4. @throws CodeGodError `invalid_arguments` */
function checkPattern(pattern: string): void {
  const fault = patternFault(pattern);
  if (fault === null) return;
  throw new CodeGodError('invalid_arguments', `the pattern ${fault}`, {
    hint: 'use one like **/*.js or src/**/*.{js,ts}',
  });
}

function patternFault(pattern: string): string | null {
  const segments = pattern.split('/');
  const stars = segments.map(segment => segment.split(/\*+/).length - 1);
  const folders = segments.filter(segment => segment.includes('**')).length;
  if (pattern.length > PATTERN_LENGTH_MAX) return `is longer than ${PATTERN_LENGTH_MAX} characters`;
  if (/[?*+@!]\(/.test(pattern)) return 'holds groups in parentheses';
  if (/\{[^{}]*\.\./.test(pattern)) return 'holds a range in braces';
  if (pattern.split('{').length - 1 > BRACES_MAX)
    return `holds more than ${BRACES_MAX} lists in braces`;
  if (Math.max(...stars) > STARS_MAX) return `holds more than ${STARS_MAX} stars between slashes`;
  if (folders > STARS_MAX) return `holds ** more than ${STARS_MAX} times`;
  return null;
}

/** A1: the real absolute path of something in the worktree, existing or not. */
export async function insidePath(name: string, given: unknown, root: string): Promise<string> {
  if (typeof given !== 'string') throw denied(`${name} is not a string`);
  const path = relativePath(name, given, root);
  const target = path === '' ? root : join(root, path);
  const real = await realTarget(target);
  if (real !== null && isInside(real, root)) return real;
  throw denied(`${name} leads out of the worktree through a link`);
}

/** The path relative to the root, without faults; '' for the root itself. */
function relativePath(name: string, given: string, root: string): string {
  const hint = `use a path relative to the project, like src/${basename(root)}.js`;
  const refuse = (why: string): CodeGodError =>
    denied(`${name} ${JSON.stringify(given.slice(0, 200))} ${why}`, hint);
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(given)) throw refuse('is a URL, not a path');
  const trimmed = given.replace(/^(\.\/)+/, '').replace(/(?<!\/)\/+$/, '');
  if (trimmed === '' && given.startsWith('/')) throw refuse('is outside the worktree');
  if (trimmed === '' || trimmed === '.') return '';
  if (trimmed.split('/').includes('..')) throw refuse('leaves the project');
  const inner = isAbsolute(trimmed) ? relative(root, trimmed) : trimmed;
  if (isAbsolute(trimmed) && inner === '') return '';
  if (isAbsolute(trimmed) && !isInside(trimmed, root)) throw refuse('is outside the worktree');
  const fault = inner.length > PATH_LENGTH_MAX ? 'is too long' : pathFault(inner);
  if (fault !== null) throw refuse(fault); // A2
  return inner;
}

function isInside(path: string, root: string): boolean {
  return path === root || path.startsWith(root + sep);
}

/** Links resolved as far as the path exists; null where a link leads nowhere. */
async function realTarget(target: string): Promise<string | null> {
  try {
    return await realpath(target);
  } catch (error) {
    if (isErrno(error, 'ENAMETOOLONG') || isErrno(error, 'ENOTDIR') || isErrno(error, 'ELOOP')) {
      return null;
    }
    if (!isErrno(error, 'ENOENT')) throw error;
  }
  const present = await lstat(target).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return null;
    throw error;
  });
  if (present !== null) return null;
  const parent = await realTarget(dirname(target));
  return parent === null ? null : join(parent, basename(target));
}

async function guardGit(args: Arguments, root: string): Promise<Arguments> {
  const guarded: Record<string, unknown> = { ...args, repo_path: root };
  const given = args['repo_path'];
  if (given !== undefined && given !== '') await insidePath('repo_path', given, root);
  if (Array.isArray(args['files'])) {
    guarded['files'] = await Promise.all(args['files'].map(file => guardPathspec(file, root)));
  }
  for (const [name, value] of Object.entries(args)) {
    if (typeof value !== 'string' || name === 'repo_path' || name === 'message') continue;
    if (/^[-:]/.test(value) || /\p{Cc}/u.test(value)) {
      throw denied(`${name} may not begin with "${value[0]}"`, 'name a branch, tag or commit');
    }
  }
  return guarded;
}

/** A file as git takes it: relative to the repository, and no pattern with a meaning of its own. */
async function guardPathspec(file: unknown, root: string): Promise<string> {
  if (typeof file !== 'string' || file.startsWith(':')) throw denied('files holds no plain path');
  const real = await insidePath('files', file, root);
  return relative(root, real) || '.';
}

async function guardFetch(args: Arguments, resolve: Resolve): Promise<Arguments> {
  if (typeof args['url'] !== 'string') throw denied('url is not a string');
  await guardUrl(args['url'], resolve);
  return args;
}

/** A3. @throws CodeGodError `denied` */
export async function guardUrl(text: string, resolve: Resolve): Promise<void> {
  if (!URL.canParse(text)) throw denied('this is not a URL', 'give a full one, with https://');
  const url = new URL(text);
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw denied(`${url.protocol} is not fetched`, 'only http and https are');
  }
  if (url.username !== '' || url.password !== '') throw denied('a URL may not carry a password');
  await guardHost(url.hostname, resolve);
}

/** A3: every address of the host must be public. @throws CodeGodError `denied` */
export async function guardHost(host: string, resolve: Resolve): Promise<readonly string[]> {
  const bare = host.replace(/^\[|\]$/g, '').replace(/\.$/, '');
  const addresses = /^[0-9.]+$|:/.test(bare) ? [bare] : await resolve(bare);
  if (addresses.length > 0 && addresses.every(isPublicAddress)) return addresses;
  throw denied(`${bare.slice(0, 200)} is not on the public internet`);
}

function denied(message: string, hint?: string): CodeGodError {
  return new CodeGodError('denied', message, hint === undefined ? {} : { hint });
}
