/**
 * The source tree as the tidy rules see it: every tracked or new text file, read once, with the
 * imports of each TypeScript file resolved to paths.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';

export interface SourceFile {
  readonly path: string;
  readonly text: string;
  /** The text with comments blanked out, line by line, so that numbers of lines stay. */
  readonly code: string;
  readonly imports: readonly Import[];
}

export interface Import {
  readonly line: number;
  /** As written: `node:fs`, `zod`, `../x.ts`. */
  readonly specifier: string;
  /** Path from the root for relative imports, the package's name for others. */
  readonly target: string;
  readonly relative: boolean;
  readonly typeOnly: boolean;
}

export type Tree = readonly SourceFile[];

export interface Breach {
  readonly path: string;
  readonly line: number;
  readonly message: string;
}

/** All files of the checkout that git does not ignore. */
export function readTree(root: string): Tree {
  const listed = execFileSync('git', ['ls-files', '-co', '--exclude-standard', '-z'], {
    cwd: root,
    encoding: 'utf8',
  });
  return listed
    .split('\0')
    .filter(path => /\.(ts|md)$/.test(path))
    .flatMap(path => readPresent(root, path));
}

function readPresent(root: string, path: string): SourceFile[] {
  try {
    return [sourceFile(path, readFileSync(join(root, path), 'utf8'))];
  } catch (error) {
    // A tracked file deleted in the work tree is not part of the tree any more.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

export function sourceFile(path: string, text: string): SourceFile {
  const code = path.endsWith('.ts') ? withoutComments(text) : text;
  return { path, text, code, imports: path.endsWith('.ts') ? findImports(path, code) : [] };
}

const IMPORT =
  /\b(?:(import|export)\s+(type\s+)?(?:[^'"();]*?\sfrom\s+)?|(import)\s*\(\s*)(['"])([^'"\n]+)\4/g;

function findImports(path: string, code: string): Import[] {
  return [...code.matchAll(IMPORT)].map(match => {
    const specifier = match[5] ?? '';
    const relative = specifier.startsWith('.');
    return {
      line: lineOf(code, match.index),
      specifier,
      target: relative ? normalize(join(dirname(path), specifier)) : packageOf(specifier),
      relative,
      typeOnly: match[2] !== undefined,
    };
  });
}

function packageOf(specifier: string): string {
  if (specifier.startsWith('node:')) return specifier;
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
}

/** Blanks out comments, leaving strings and templates alone. */
function withoutComments(text: string): string {
  const token = /(["'`])(?:\\.|(?!\1)[^\\])*\1|\/\*[\s\S]*?\*\/|(?<=^|[\s;{}(,])\/\/[^\n]*/g;
  return text.replace(token, (found, quote: string | undefined) =>
    quote === undefined ? found.replace(/[^\n]/g, ' ') : found,
  );
}

export function lineOf(text: string, index: number): number {
  return text.slice(0, index).split('\n').length;
}
