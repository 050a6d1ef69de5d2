/**
 * Which web pages may ask. What Ollama serves by default, and what OLLAMA_ORIGINS adds, may ask the
 * routes that clients of models know; nothing of that reaches builds or what steers the system.
 *
 * O1: every other route serves pages of the door itself, and origins that `http.origins` names in full:
 *     a `*` in it, and `null`, which names nobody, are good for the routes of models alone.
 * O2: no answer allows credentials: a page can send a key that it was given, and no other.
 */
import type { HeaderOf } from './guards.ts';

/** As Ollama's own list. */
const DEFAULTS: readonly string[] = [
  ...['localhost', '127.0.0.1', '0.0.0.0'].flatMap(host =>
    ['http', 'https'].flatMap(scheme => [`${scheme}://${host}`, `${scheme}://${host}:*`]),
  ),
  ...['app://*', 'file://*', 'tauri://*', 'vscode-webview://*', 'vscode-file://*'],
];

const METHODS = 'GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS';
const EXPOSED = 'x-codegod-request, x-codegod-node, x-codegod-model, x-codegod-key, retry-after';
const REMEMBERED_S = 43_200;

export interface Origins {
  /** For the routes of models. */
  readonly pool: OriginRule;
  /** For every other route. */
  readonly other: OriginRule;
}

export type OriginRule = (origin: string) => boolean;

/** `listed`: `http.origins`; `ollama`: OLLAMA_ORIGINS. */
export function originsOf(listed: readonly string[], ollama: readonly string[]): Origins {
  const patterns = [...DEFAULTS, ...listed, ...ollama].map(patternOf);
  const named = new Set(
    listed.map(bare).filter(origin => !origin.includes('*') && origin !== 'null'),
  );
  return {
    pool: origin => patterns.some(pattern => pattern.test(origin)),
    other: origin => named.has(bare(origin)),
  };
}

const bare = (origin: string): string =>
  origin
    .trim()
    .toLowerCase()
    .replace(/(?<!\/)\/+$/, '');

/** `*` stands for anything; as a port, for any port. */
function patternOf(text: string): RegExp {
  const escaped = bare(text).replace(/[.+?^${}()|[\]\\]/g, '\\$&');
  const source = escaped.replace(/:\*$/, ':\\d{1,5}').replace(/\*/g, '.*');
  return new RegExp(`^${source}$`, 'i');
}

/** What a browser has to read before it lets the page of this origin see an answer (O2). */
export function grantHeaders(origin: string): Record<string, string> {
  return {
    'access-control-allow-origin': origin,
    'access-control-expose-headers': EXPOSED,
    vary: 'origin',
  };
}

/** The answer to a browser that asks whether a page may ask. */
export function preflightHeaders(origin: string, header: HeaderOf): Record<string, string> {
  return {
    ...grantHeaders(origin),
    'access-control-allow-methods': METHODS,
    'access-control-allow-headers': header('access-control-request-headers') ?? '*',
    'access-control-max-age': String(REMEMBERED_S),
  };
}
