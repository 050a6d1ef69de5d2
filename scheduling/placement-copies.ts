/** Of which models the nodes have copies, or will have: losing one of several costs less. */
import type { NodeState } from './placement-node.ts';

/** Canonical names. */
export interface Copies {
  /** At least one node has it. */
  readonly held: ReadonlySet<string>;
  /** Several have. The same object for the same names, so that judgements by it can be kept. */
  readonly doubled: ReadonlySet<string>;
}

/** Of the list that was asked about last: one list is asked about by all who are judged by it. */
let last: { readonly states: readonly NodeState[]; readonly copies: Copies } = {
  states: [],
  copies: { held: new Set(), doubled: new Set() },
};

export function copiesOf(states: readonly NodeState[]): Copies {
  if (last.states === states) return last.copies;
  const held = new Set<string>();
  const found = new Set<string>();
  for (const { residents } of states) {
    for (const key of residents) (held.has(key) ? found : held).add(key);
  }
  const before = last.copies.doubled;
  const isSame = found.size === before.size && [...found].every(key => before.has(key));
  last = { states, copies: { held, doubled: isSame ? before : found } };
  return last.copies;
}
