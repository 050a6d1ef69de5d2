/** Goal: an advert that takes over what has not changed is the same advert, and shares what it can. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { RuntimeAdvert } from '../protocol/node.ts';
import { sharedWith } from './advert-sharing.ts';
import { GIB, nodeView } from './test-nodes.ts';

const advertOf = (names: readonly string[], changes: Readonly<Record<string, object>> = {}) => {
  const models = names.map(name => ({ name, size_bytes: GIB, ...changes[name] }));
  const advert = nodeView({ id: 'a', models }).runtime?.advert;
  assert.ok(advert);
  return advert;
};
const modelsOf = (advert: RuntimeAdvert) => advert.engines[0]?.models ?? [];

test('what has not changed is the object that was there before', () => {
  const known = advertOf(['a', 'b', 'c']);
  const fresh = sharedWith(known, { ...advertOf(['a', 'b', 'c'], { b: { in_flight: 1 } }), at: 9 });
  assert.equal(fresh.at, 9);
  assert.deepEqual(
    modelsOf(fresh).map((model, at) => model === modelsOf(known)[at]),
    [true, false, true],
  );
  assert.equal(modelsOf(fresh)[1]?.in_flight, 1);
  const same = sharedWith(known, { ...advertOf(['a', 'b', 'c']), slots_used: 3 });
  assert.equal(same.engines, known.engines);
  assert.equal(same.slots_used, 3);
});

test('whatever changed, the advert is the fresh one', () => {
  const advert = fc
    .record({
      names: fc.subarray(['a', 'b', 'c', 'd', 'e']),
      loaded: fc.constantFrom('a', 'c', 'x'),
      used_at: fc.option(fc.nat({ max: 2 })),
      load_ms: fc.option(fc.nat({ max: 2 }), { nil: undefined }),
      capabilities: fc.subarray(['completion', 'tools']),
      version: fc.constantFrom('1', '2'),
    })
    .map(({ names, loaded, load_ms, version, ...more }) => {
      const changes = { loaded: true, ...more, ...(load_ms === undefined ? {} : { load_ms }) };
      const made = advertOf(names, { [loaded]: changes });
      return { ...made, engines: made.engines.map(engine => ({ ...engine, version })) };
    });
  fc.assert(
    fc.property(advert, advert, (known, fresh) => {
      assert.deepEqual(sharedWith(known, structuredClone(fresh)), fresh);
    }),
  );
});
