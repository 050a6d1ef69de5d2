/**
 * What waiting requests wish for, so that those that wish the same are judged together and what was
 * found for them once is found again.
 *
 * W1: everything here is memory aid: losing it changes no decision.
 */
import type { PlacementRequest } from './placement.ts';
import { type Memo, newMemo } from './placement-candidates.ts';
import type { QueueOptions } from './queue-state.ts';

const WISHES_MAX = 8_192;
/** Groups whose judgements are remembered. */
const MEMOS_MAX = 512;
const rounded = new WeakMap<PlacementRequest, PlacementRequest>();
const wants = new WeakMap<PlacementRequest, number>();
const wishes = new Map<string, number>();
let wishesSeen = 0;

const memos = new WeakMap<QueueOptions, Map<string, Memo>>();

/** Of one group, as long as the options are the same. */
export function memoOf(options: QueueOptions, group: string): Memo {
  let known = memos.get(options);
  if (known === undefined || known.size >= MEMOS_MAX) {
    known = new Map();
    memos.set(options, known);
  }
  let memo = known.get(group);
  if (memo === undefined) {
    memo = newMemo();
    known.set(group, memo);
  }
  return memo;
}

/** With its tokens rounded up, so that requests that hardly differ are judged together. */
export function roundedOf(request: PlacementRequest): PlacementRequest {
  const known = rounded.get(request);
  if (known !== undefined) return known;
  const { prompt_tokens, output_tokens } = request;
  const round = {
    ...request,
    ...(prompt_tokens === undefined ? {} : { prompt_tokens: roundUp(prompt_tokens) }),
    ...(output_tokens === undefined ? {} : { output_tokens: roundUp(output_tokens) }),
  };
  rounded.set(request, round);
  return round;
}

const roundUp = (tokens: number): number => (tokens <= 0 ? 0 : 2 ** Math.ceil(Math.log2(tokens)));

/** A number for each wish: requests that want the same have the same. */
export function wantOf(request: PlacementRequest): number {
  const known = wants.get(request);
  if (known !== undefined) return known;
  const text = JSON.stringify(request);
  let want = wishes.get(text);
  if (want === undefined) {
    if (wishes.size >= WISHES_MAX) wishes.clear();
    wishesSeen += 1;
    want = wishesSeen;
    wishes.set(text, want);
  }
  wants.set(request, want);
  return want;
}
