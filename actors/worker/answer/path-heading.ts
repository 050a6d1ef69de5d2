/**
 * Finds the path that a fenced block is for: in the line above the fence or in the fence's own info
 * string. Models write it in many ways: `src/a.js`, **src/a.js**, ### 1. `src/a.js`, File: src/a.js,
 * ```js src/a.js, ```js:src/a.js, ```js title="src/a.js".
 *
 * P1: a word is a path only if it looks like one: it has a slash, an extension or a well-known name.
 */
import { pathFault } from '../../../protocol/text.ts';

export type Heading =
  | { readonly kind: 'path'; readonly path: string }
  /** It was meant as a path, but no such path may be written. */
  | { readonly kind: 'fault'; readonly path: string; readonly fault: string };

const LABEL = /^(?:file ?name|file ?path|file|path|create|update|new file|modified)\s*[:=-]\s*/i;
const BARE_NAMES =
  /^(?:Dockerfile|Makefile|LICENSE|README|Procfile|Gemfile|Rakefile|Justfile|CHANGELOG|VERSION|\.[a-z][a-z0-9_-]{1,30})$/;

/** The path in the line above a fence, or null where the line is ordinary text. */
export function headingOf(line: string): Heading | null {
  if (line.length > 512) return null;
  const marked = line
    .trim()
    .replace(/^(?:#{1,6}\s+|[-*+]\s+|>\s+)/, '')
    .replace(/^\d{1,3}[.)]\s+/, '')
    .replace(/^(?:\/\/|<!--)\s*/, '')
    .replace(/(?<!\s)\s*-->$/, '')
    .trim();
  const plain = unwrap(unwrap(marked).replace(LABEL, ''));
  const whole = asHeading(plain);
  if (whole !== null) return whole;
  return quotedPath(marked);
}

/** The path in a fence's info string, or null. */
export function infoPathOf(info: string): Heading | null {
  const named = /(?:path|file|filename|title|name)\s*=\s*["']?([^"'\s}]+)/i.exec(info);
  if (named?.[1] !== undefined) return asHeading(named[1]);
  const colon = /^[\w+#.-]{1,20}:(\S+)$/.exec(info);
  if (colon?.[1] !== undefined) return asHeading(colon[1]);
  for (const word of info.split(/\s+/)) {
    if (word.includes('/')) return asHeading(unwrap(word));
  }
  const second = info.split(/\s+/)[1];
  return second === undefined ? null : asHeading(unwrap(second));
}

/** The path in a comment on the first line of the code. */
export function commentPathOf(code: string): Heading | null {
  const first = code.slice(0, 300).split('\n', 1)[0] ?? '';
  const match =
    /^\s*(?:\/\/|#|--|;|\/\*|<!--)\s*(?:file(?:name|path)?:\s*)?(\S+?)\s*(?:\*\/|-->)?\s*$/i.exec(
      first,
    );
  return match?.[1] === undefined ? null : asHeading(match[1]);
}

/** Takes off bold, backticks, quotes and a closing colon, in any order they are nested. */
function unwrap(text: string): string {
  let rest = text.trim();
  for (let round = 0; round < 6; round++) {
    const before = rest;
    rest = rest.replace(/:$/, '').trim();
    rest = rest.replace(/(?<!\s)\s+\((?:new|updated?|modified|unchanged|created)\)$/i, '');
    const match = /^(\*\*|__|`|"|'|\*|_)(.+)\1$/.exec(rest);
    if (match?.[2] !== undefined && !match[2].includes('`')) rest = match[2].trim();
    if (rest === before) return rest;
  }
  return rest;
}

/** "Here is `src/a.js`:" – one quoted path in a sentence that announces a block. */
function quotedPath(line: string): Heading | null {
  if (!/[:.]$/.test(line.replace(/(?<![*_])[*_]+$/, ''))) return null;
  const found = [...line.matchAll(/`([^`]{1,240})`/g)]
    .map(match => asHeading(match[1] ?? ''))
    .filter(heading => heading !== null);
  return found.length === 1 ? (found[0] ?? null) : null;
}

function asHeading(word: string): Heading | null {
  const path = word.replace(/^(?:\.\/)+/, '');
  if (!/^[\w.@+\-()[\]$/\\:~]+$/.test(path)) return null;
  const name = path.split(/[/\\]/).at(-1) ?? '';
  const extension = /[^.]\.[A-Za-z][A-Za-z0-9]{0,11}$/.test(name);
  if (!extension && !BARE_NAMES.test(name) && !/^[\w.-]+(?:\/[\w.@()[\]-]+)+$/.test(path))
    return null;
  if (/^[a-z]+:\/\//i.test(path)) return null;
  const fault = pathFault(path);
  return fault === null ? { kind: 'path', path } : { kind: 'fault', path, fault };
}
