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

/** Bytes of the file; null where the name does not tell the number of parameters. */
export function sizeOfName(name: string): number | null {
  const tag = name.slice(0, 256).toLowerCase().split(':').at(-1) ?? '';
  const told = /(?:^|[^a-z0-9.])(?:(\d{1,3})x)?(\d{1,4}(?:\.\d{1,3})?)([bm])(?![a-z0-9])/.exec(tag);
  if (told === null) return null;
  const [, copies = '1', count, unit] = told;
  const parameters = Number(copies) * Number(count) * (unit === 'b' ? BILLION : MILLION);
  const bits = MIXTURES.find(([ending]) => ending.test(tag))?.[1] ?? DEFAULT_BITS;
  return Math.ceil((parameters * bits * ROUNDED) / BITS_PER_BYTE);
}
