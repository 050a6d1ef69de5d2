/** Models of which several nodes have a copy: losing one of them costs less. */
import type { NodeState } from './placement-node.ts';

/** The set found last: the same object for the same names, so that judgements by it can be kept. */
let last: ReadonlySet<string> = new Set();

/** Models of which several nodes have a copy, or will have. */
export function doubledOf(states: readonly NodeState[]): ReadonlySet<string> {
  const once = new Set<string>();
  const doubled = new Set<string>();
  for (const { residents } of states) {
    for (const key of residents) (once.has(key) ? doubled : once).add(key);
  }
  const isSame = doubled.size === last.size && [...doubled].every(key => last.has(key));
  if (!isSame) last = doubled;
  return last;
}
