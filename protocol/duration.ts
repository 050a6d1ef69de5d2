/** Durations as Ollama and its clients write them: a number of seconds, or Go's own form, such as `1h30m`. */

const UNIT_S: Readonly<Record<string, number>> = {
  ns: 1e-9,
  us: 1e-6,
  µs: 1e-6,
  ms: 1e-3,
  s: 1,
  m: 60,
  h: 3_600,
};
const PART = /(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)/gy;
const LENGTH_MAX = 64;

/** In seconds; -1 for anything below nothing, which means for good; null for what is no duration. */
export function secondsOf(value: unknown): number | null {
  if (typeof value === 'number') return Number.isFinite(value) ? bounded(value) : null;
  if (typeof value !== 'string' || value.length > LENGTH_MAX) return null;
  const text = value.trim();
  const sign = text.startsWith('-') ? -1 : 1;
  const amount = text.replace(/^[-+]/, '');
  if (/^\d+(\.\d+)?$/.test(amount)) return bounded(sign * Number(amount));
  let seconds = 0;
  let read = 0;
  for (const [part, digits, unit] of amount.matchAll(PART)) {
    seconds += Number(digits) * (UNIT_S[unit ?? ''] ?? 0);
    read += part.length;
  }
  return read === 0 || read !== amount.length ? null : bounded(sign * seconds);
}

const bounded = (seconds: number): number => (seconds < 0 ? -1 : seconds);
