/**
 * How large a model is by its name alone, before anybody has downloaded it: `qwen2.5-coder:14b` has
 * 14 billion parameters, and Ollama's default mixture is Q4_K_M.
 *
 * N1: a guess, and rather too high: names round, and tables of tokens are kept finer than the rest.
 */

const BILLION = 1e9;
const MILLION = 1e6;
const BITS_PER_BYTE = 8;
/** N1. */
const ROUNDED = 1.08;

/** Bits of one weight by the mixture that a tag may end with; the first that fits. */
const MIXTURES: readonly (readonly [RegExp, number])[] = [
  [/(^|[-_])(fp32|f32)$/, 32],
  [/(^|[-_])(fp16|f16|bf16)$/, 16],
  [/(^|[-_])q8(_\w+)?$/, 8.5],
  [/(^|[-_])q6(_\w+)?$/, 6.6],
  [/(^|[-_])q5(_\w+)?$/, 5.7],
  [/(^|[-_])(q4|iq4|mxfp4|nvfp4)(_\w+)?$/, 4.9],
  [/(^|[-_])i?q3(_\w+)?$/, 4],
  [/(^|[-_])i?q2(_\w+)?$/, 3.4],
];
const DEFAULT_BITS = 4.9;
/** Parameters of models that are named after those of them that count (`e4b`, Gemma 3n and 4). */
const EFFECTIVE: Readonly<Record<string, number>> = { '2': 5.44, '4': 7.85 };
const EFFECTIVE_OTHERWISE = 2.7;
/** Their tables of embeddings and their towers are kept finer than the mixture: so many bits more. */
const EFFECTIVE_BITS = 5;
const BITS_MAX = 16;

/** Bytes of the file; null where the name does not tell the number of parameters. */
export function sizeOfName(name: string): number | null {
  const tag = name.slice(0, 256).toLowerCase().split(':').at(-1) ?? '';
  const told = /(?:^|[^a-z0-9.])(e|(?:\d{1,3}x))?(\d{1,4}(?:\.\d{1,3})?)([bm])(?![a-z0-9])/.exec(
    tag,
  );
  if (told === null) return null;
  const [, before = '1x', count = '', unit] = told;
  const one = unit === 'b' ? BILLION : MILLION;
  const mixture = MIXTURES.find(([ending]) => ending.test(tag))?.[1] ?? DEFAULT_BITS;
  const isEffective = before === 'e';
  const all = isEffective
    ? (EFFECTIVE[count] ?? EFFECTIVE_OTHERWISE * Number(count))
    : Number.parseInt(before, 10) * Number(count);
  const bits = isEffective
    ? Math.max(mixture, Math.min(BITS_MAX, mixture + EFFECTIVE_BITS))
    : mixture;
  return Math.ceil((all * one * bits * ROUNDED) / BITS_PER_BYTE);
}
