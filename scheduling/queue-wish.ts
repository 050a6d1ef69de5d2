/** Requests that want the same, told by one number, so that they are judged once. */
import type { PlacementRequest } from './placement.ts';

const WISHES_MAX = 8_192;
const rounded = new WeakMap<PlacementRequest, PlacementRequest>();
const wants = new WeakMap<PlacementRequest, number>();
const wishes = new Map<string, number>();
let wishesSeen = 0;

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
