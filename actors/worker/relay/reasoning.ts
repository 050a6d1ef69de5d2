/**
 * How much a model may think, in the words of the engine: a model that cannot think refuses to be
 * asked to, and some know only `low`, `medium` and `high`.
 */
import type { ModelFacts } from './dialect.ts';
import { refusal } from './fields.ts';

export type Effort = 'none' | 'low' | 'medium' | 'high';

/** What clients call their levels; the engine knows four. */
const EFFORTS: Readonly<Record<string, Effort>> = {
  none: 'none',
  minimal: 'none',
  low: 'low',
  medium: 'medium',
  high: 'high',
  xhigh: 'high',
  max: 'high',
};

export function effortOf(word: string, param: string): Effort {
  const effort = Object.hasOwn(EFFORTS, word) ? EFFORTS[word] : undefined;
  if (effort !== undefined) return effort;
  throw refusal(param, `is none of ${Object.keys(EFFORTS).join(', ')}`);
}

/** The engine's `think`; undefined for a model that does not think, or of which nobody knows. */
export function thinkOf(effort: Effort, facts: ModelFacts): boolean | string | undefined {
  if (facts.capabilities === null) return effort === 'none' ? false : undefined;
  if (!facts.capabilities.includes('thinking')) return undefined;
  if (/gpt-?oss/i.test(facts.family ?? '')) return effort === 'none' ? 'low' : effort;
  return effort !== 'none';
}
