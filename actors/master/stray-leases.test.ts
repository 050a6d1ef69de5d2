/** Which leases are astray, and from when on. Method: adverts and contexts by hand. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BuildId, BuildStamp, LeaseId, TaskId } from '../../protocol/ids.ts';
import type { LeaseAdvert } from '../../protocol/node.ts';
import type { NodeView } from '../../scheduling/node-view.ts';
import { nodeView } from '../../scheduling/test-nodes.ts';
import { StrayLeases } from './stray-leases.ts';
import { TestBuild } from './test-build.ts';

const BUILD = BuildId.parse('b1');
const held = (lease: string, attempt: number): LeaseAdvert => ({
  ...{ lease: LeaseId.parse(lease), build: BUILD, task: TaskId.parse('store'), attempt },
  ...{ model: 'm', bytes: 1, expires_at: 0 },
});
const showing = (...leases: ReturnType<typeof held>[]): readonly NodeView[] => {
  const view = nodeView({ id: 'node-a' });
  assert.ok(view.runtime);
  const advert = { ...view.runtime.advert, leases };
  return [{ ...view, runtime: { ...view.runtime, advert } }];
};
/** Whether a lease that is shown for so long is taken for a stray. */
const isStray = (
  build: TestBuild | 'ended' | null,
  lease: ReturnType<typeof held>,
  afterMs = 3_000,
): boolean => {
  const strays = new StrayLeases();
  const lookup = () => (build instanceof TestBuild ? build.context : build);
  assert.deepEqual(strays.found(showing(lease), lookup, 0), [], 'never at first sight');
  return strays.found(showing(lease), lookup, afterMs).length === 1;
};

test('what an attempt holds from its placing to its withdrawal is not astray', () => {
  const build = new TestBuild().receive().runTo('executing');
  assert.equal(isStray(build, held('l', 1)), false, 'placing');
  build.dispatchAll();
  const lease = build.task('store').lease?.lease ?? '';
  assert.equal(isStray(build, held(lease, 1)), false, 'running');
  build.control('cancel');
  assert.equal(isStray(build, held(lease, 1)), false, 'being withdrawn');
  build.run();
  assert.equal(isStray(build, held(lease, 1)), true, 'withdrawn');
});

test('what another attempt or a build that is over holds is astray after three seconds', () => {
  const build = new TestBuild().receive().runTo('executing').dispatchAll();
  assert.equal(isStray(build, held('other', 1)), true);
  assert.equal(isStray('ended', held('l', 1)), true);
  assert.equal(isStray('ended', held('l', 1), 2_999), false);
});

test('what was granted to another build of its number is astray', () => {
  const build = new TestBuild().receive().runTo('executing');
  const stamp = BuildStamp.parse('aaaaaaaa');
  assert.equal(isStray(build, { ...held('l', 1), stamp }), true, 'placing, but another build');
  const strays = new StrayLeases();
  const lookup = () => build.context;
  const views = showing({ ...held('l', 1), stamp });
  strays.found(views, lookup, 0);
  const [stray] = strays.found(views, lookup, 3_000);
  assert.deepEqual([stray?.stamp, stray?.foreign], [stamp, true]);
});

test('what nobody here knows of is left to its time, and so is what clients hold', () => {
  assert.equal(isStray(null, held('l', 1)), false);
  const { build: _build, task: _task, attempt: _attempt, ...request } = held('l', 1);
  const strays = new StrayLeases();
  const views = showing(request as ReturnType<typeof held>);
  for (const now of [0, 60_000])
    assert.deepEqual(
      strays.found(views, () => 'ended', now),
      [],
    );
});

test('one that is seen again after it was gone begins anew', () => {
  const strays = new StrayLeases();
  const lookup = () => 'ended' as const;
  strays.found(showing(held('l', 1)), lookup, 0);
  strays.found(showing(), lookup, 1_000);
  assert.equal(strays.found(showing(held('l', 1)), lookup, 4_000).length, 0);
  assert.equal(strays.found(showing(held('l', 1)), lookup, 7_000).length, 1);
});
