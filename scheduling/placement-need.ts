/** What a model takes on a node: by the formula, and by what observed loads say beside that. */
import type { MemoryNeed } from './memory.ts';
import { memoryOptionsOf, needOf, profileOf } from './node-need.ts';
import { residualOf } from './observed-loads.ts';
import type { Entry, NodeState } from './placement-node.ts';

export interface Taken {
  readonly need: MemoryNeed;
  readonly residual: number;
}

/** Contexts of one model that are remembered. */
const CONTEXTS_MAX = 32;
/** The same for every request until something changes on the node. */
const remembered = new WeakMap<NodeState, Map<Entry, Map<number, Taken>>>();

export function takenBy(state: NodeState, entry: Entry, tokens: number): Taken {
  let entries = remembered.get(state);
  if (entries === undefined) {
    entries = new Map();
    remembered.set(state, entries);
  }
  let contexts = entries.get(entry);
  if (contexts === undefined) {
    contexts = new Map();
    entries.set(entry, contexts);
  }
  const known = contexts.get(tokens);
  if (known !== undefined) return known;
  const { backend, residuals } = state;
  const need = needOf(profileOf(entry.model), memoryOptionsOf(state, entry, tokens));
  const { residual_bytes } = residualOf({ ...entry, backend }, residuals, need);
  const taken = { need, residual: residual_bytes };
  if (contexts.size >= CONTEXTS_MAX) contexts.clear();
  contexts.set(tokens, taken);
  return taken;
}
