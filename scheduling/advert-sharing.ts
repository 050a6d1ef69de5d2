/**
 * A node renews its advert every few seconds, and of two hundred models one or two have changed since.
 * What has not is taken from the advert before: what was computed from it stays valid, and the copy
 * is forgotten while it is young.
 *
 * S1: the result equals the fresh advert.
 */
import type { EngineAdvert, ModelAdvert, RuntimeAdvert } from '../protocol/node.ts';

/** `fresh` with everything that equals its like in `known` replaced by that. Both are plain data. */
export function sharedWith(known: RuntimeAdvert, fresh: RuntimeAdvert): RuntimeAdvert {
  const engines = sharedList(known.engines, fresh.engines, sharedEngine);
  return { ...fresh, engines };
}

function sharedEngine(known: EngineAdvert, fresh: EngineAdvert): EngineAdvert {
  if (known.name !== fresh.name) return fresh;
  const engine = { ...fresh, models: sharedList(known.models, fresh.models, sharedModel) };
  return isEqual(known, engine) ? known : engine;
}

const sharedModel = (known: ModelAdvert, fresh: ModelAdvert): ModelAdvert =>
  isEqual(known, fresh) ? known : fresh;

/** Members are compared by their places; the list itself is the known one where all are. */
function sharedList<T>(known: T[], fresh: T[], shared: (known: T, fresh: T) => T): T[] {
  const list = fresh.map((member, place) => {
    const before = known[place];
    return before === undefined ? member : shared(before, member);
  });
  const isSame = known.length === list.length && list.every((member, at) => member === known[at]);
  return isSame ? known : list;
}

/** Of plain data: numbers, strings, booleans, null, lists and records. */
function isEqual(left: unknown, right: unknown): boolean {
  if (left === right) return true;
  if (typeof left !== 'object' || typeof right !== 'object' || left === null || right === null) {
    return false;
  }
  if (Array.isArray(left) || Array.isArray(right)) {
    if (!Array.isArray(left) || !Array.isArray(right)) return false;
    return left.length === right.length && left.every((member, at) => isEqual(member, right[at]));
  }
  const one = left as Readonly<Record<string, unknown>>;
  const other = right as Readonly<Record<string, unknown>>;
  let members = 0;
  for (const key in one) {
    members += 1;
    if (!isEqual(one[key], other[key])) return false;
    if (one[key] === undefined && !(key in other)) return false;
  }
  for (const _ in other) members -= 1;
  return members === 0;
}
