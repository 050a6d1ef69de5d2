/** Sizes and counts as people write them: `24GiB`, `800MB`, `8192`, `32k`. */
import { CliError } from './exit-code.ts';

const UNITS: Readonly<Record<string, number>> = {
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  k: 2 ** 10,
  m: 2 ** 20,
  g: 2 ** 30,
  t: 2 ** 40,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
};
const CARDS_MAX = 64;
const CONTEXT_TOKENS_MAX = 16 * 2 ** 20;

/** Bytes of one size. */
export function sizeOf(text: string, flag: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]+)$/i.exec(text.trim());
  const unit = UNITS[(match?.[2] ?? '').toLowerCase()];
  const bytes = Math.round(Number(match?.[1]) * (unit ?? Number.NaN));
  if (Number.isSafeInteger(bytes)) return bytes;
  const said = JSON.stringify(text);
  throw new CliError('usage', `${flag}: ${said} is no size`, 'with its unit: 24GiB, 800MiB, 16GB');
}

/** One size per card; `none` for no card. */
export function sizesOf(text: string, flag: string): readonly number[] {
  if (text.trim() === 'none') return [];
  const parts = text.split(',');
  if (parts.length > CARDS_MAX) throw new CliError('usage', `${flag}: at most ${CARDS_MAX} cards`);
  return parts.map(part => sizeOf(part, flag));
}

/** Tokens of a context: `8192`, or `8k` for the same. */
export function contextOf(text: string, flag: string): number {
  const match = /^(\d+)(k?)$/i.exec(text.trim());
  const tokens = Number(match?.[1]) * (match?.[2] === '' ? 1 : 1_024);
  if (tokens >= 1 && tokens <= CONTEXT_TOKENS_MAX) return tokens;
  throw new CliError(
    'usage',
    `${flag}: ${JSON.stringify(text)} is no number of tokens`,
    `a whole number from 1 to ${CONTEXT_TOKENS_MAX}, such as 8192 or 8k`,
  );
}
