/** Who may steer a build, and when; which attempts are lost with their node. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BUILD_ENDS, type BuildState } from '../../protocol/build.ts';
import { BuildId } from '../../protocol/ids.ts';
import { ADVERT_TTL_MS } from '../../protocol/streams.ts';
import { controlApplies } from './build-control.ts';
import { lostAttempts } from './lost-attempts.ts';
import { TestBuild } from './test-build.ts';

const B1 = BuildId.parse('b1');
const ACTIONS = ['cancel', 'approve', 'retry', 'pause', 'resume'] as const;

/** Which actions change something in this state; the rest is refused or as good as done. */
function allowed(state: BuildState): string[] {
  return ACTIONS.filter(action => {
    try {
      return controlApplies(B1, state, action);
    } catch {
      return false;
    }
  });
}

test('every state says what may be asked of it', () => {
  assert.deepEqual(allowed('executing'), ['cancel', 'pause']);
  assert.deepEqual(allowed('awaiting_approval'), ['cancel', 'approve', 'pause']);
  assert.deepEqual(allowed('paused'), ['cancel', 'resume']);
  assert.deepEqual(allowed('waiting_capacity'), ['cancel', 'pause']);
  assert.deepEqual(allowed('received'), ['cancel']);
  assert.deepEqual(allowed('succeeded'), []);
  for (const state of ['partial', 'failed', 'cancelled'] as const) {
    assert.deepEqual(allowed(state), ['retry'], state);
  }
});

test('what is over cannot be cancelled, and asking twice is no error', () => {
  for (const state of BUILD_ENDS.filter(end => end !== 'cancelled')) {
    assert.throws(() => controlApplies(B1, state, 'cancel'), /cannot be cancelled/);
  }
  assert.equal(controlApplies(B1, 'cancelling', 'cancel'), false);
  assert.equal(controlApplies(B1, 'paused', 'pause'), false);
});

test('whatever a control may do, the machine does: no state refuses what was allowed', () => {
  const states: readonly BuildState[] = ['executing', 'finalizing', 'verifying', 'planning'];
  for (const state of states) {
    for (const action of allowed(state)) {
      const build = new TestBuild().receive().runTo(state);
      build.control(action as (typeof ACTIONS)[number]);
      assert.notEqual(build.state, state, `${action} moves a build that is ${state}`);
    }
  }
});

test('attempts on a node that went silent are lost after a minute, others are not', () => {
  const build = new TestBuild().receive().runTo('executing').dispatchAll();
  const heardAt = (): number => 1_000;
  assert.deepEqual(lostAttempts(build.context, heardAt, 999 + ADVERT_TTL_MS), []);
  const keys = lostAttempts(build.context, heardAt, 1_000 + ADVERT_TTL_MS);
  assert.deepEqual(keys, ['task:store.1']);
  for (const key of keys) build.send({ type: 'deadline.passed', key });
  assert.equal(build.task('store').state, 'retry_wait');
});
