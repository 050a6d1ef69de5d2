/** The part of Ollama's environment that decides how a node behaves, under Ollama's names. */

export interface Environment {
  readonly parallel: number;
  readonly queueMax: number;
  /** Null: three per card. */
  readonly loadedMax: number | null;
  readonly keepAliveMs: number;
  /** Null: by the memory of the cards. */
  readonly contextDefault: number | null;
  /** Of an element of the key-value cache: what the node reckons with, and what it takes. */
  readonly cacheElement: { readonly toldBytes: number; readonly bytes: number };
}

const F16 = { toldBytes: 2, bytes: 2 };
/** Ollama forgets the scales of the blocks. */
const CACHE_ELEMENTS: Readonly<Record<string, typeof F16>> = {
  f16: F16,
  q8_0: { toldBytes: 1, bytes: 34 / 32 },
  q4_0: { toldBytes: 0.5, bytes: 18 / 32 },
};
/** What Go's largest duration is in milliseconds: forever. */
export const FOREVER_MS = 9_223_372_036_854;
const GO_UNITS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
};

export function environmentOf(env: Readonly<Record<string, string | undefined>>): Environment {
  const number = (name: string, otherwise: number): number => Number(env[name] || otherwise);
  const loadedMax = number('OLLAMA_MAX_LOADED_MODELS', 0);
  const contextDefault = number('OLLAMA_CONTEXT_LENGTH', 0);
  const keepAlive = env['OLLAMA_KEEP_ALIVE'] || '5m';
  return {
    parallel: Math.max(1, number('OLLAMA_NUM_PARALLEL', 1)),
    queueMax: number('OLLAMA_MAX_QUEUE', 512),
    loadedMax: loadedMax === 0 ? null : loadedMax,
    keepAliveMs: keepAliveMs(/^-?\d+$/.test(keepAlive) ? Number(keepAlive) : keepAlive),
    contextDefault: contextDefault === 0 ? null : contextDefault,
    cacheElement: CACHE_ELEMENTS[env['OLLAMA_KV_CACHE_TYPE'] || 'f16'] ?? F16,
  };
}

/** Numbers are seconds, texts Go's durations; below zero is forever. Throws Go's words. */
export function keepAliveMs(value: unknown): number {
  if (typeof value === 'number') return value < 0 ? FOREVER_MS : value * 1_000;
  if (typeof value !== 'string') throw new Error(`Unsupported type: '${typeof value}'`);
  const sign = value.startsWith('-') ? -1 : 1;
  const body = value.replace(/^[+-]/, '');
  const parts = [...body.matchAll(/([\d.]+)(ns|us|µs|ms|s|m|h)/g)];
  if (body === '0') return 0;
  if (parts.map(([part]) => part).join('') !== body || body === '') {
    const reason = /^[\d.]+$/.test(body) ? 'missing unit in duration' : 'invalid duration';
    throw new Error(`time: ${reason} "${value}"`);
  }
  const ms = parts.reduce((sum, [, n, unit]) => sum + Number(n) * (GO_UNITS[unit ?? ''] ?? 0), 0);
  return sign < 0 ? FOREVER_MS : ms;
}
