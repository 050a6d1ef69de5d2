/** Goal: an attempt is given up when nobody works on it, and not because it waits or is slow. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { BuildId, NodeId } from '../../protocol/ids.ts';
import { ADVERT_TTL_MS } from '../../protocol/streams.ts';
import type { NodeView } from '../../scheduling/node-view.ts';
import { budgetEndsAt, NEW_BUILD } from './build-context.ts';
import { deadlineFact } from './task-deadline.ts';
import { TestBuild } from './test-build.ts';

const BUILD = BuildId.parse('b1');
const LIMIT_MS = 60_000;

function running() {
  const build = new TestBuild().receive().runTo('executing').dispatchAll();
  const task = build.context.tasks.find(({ state }) => state === 'running') ?? assert.fail();
  return { build, task, key: `task:${task.id}.${task.attempt}` };
}
const viewOf = (node: string, lease: object): NodeView => ({
  node: NodeId.parse(node),
  capacity: null,
  runtime: { advert: { leases: [lease] } as never, seen_at: 0 },
});

describe('an attempt whose deadline has come', () => {
  it('goes on while its node says that it is at work, within the time of the build', () => {
    const { build, task, key } = running();
    const { context } = build;
    const now = context.deadlines[key] ?? assert.fail(key);
    const node = task.lease?.node ?? '';
    const lease = { build: BUILD, task: task.id, attempt: task.attempt, at_work: true };
    const news = { now, limitMs: LIMIT_MS, heardForMs: ADVERT_TTL_MS };
    const factOf = (said: object, changes: object = {}) =>
      deadlineFact(BUILD, context, key, { ...news, views: [viewOf(node, said)], ...changes });
    const extended = factOf(lease);
    assert.ok(extended.type === 'task.extended' && extended.deadline_at === now + LIMIT_MS);
    build.send(extended);
    assert.equal(build.context.deadlines[key], now + LIMIT_MS);
    for (const said of [
      { ...lease, at_work: false },
      { ...lease, at_work: undefined },
      { ...lease, attempt: 9 },
      { ...lease, build: 'b2' },
    ]) {
      assert.equal(factOf(said).type, 'deadline.passed', JSON.stringify(said));
    }
    assert.equal(factOf(lease, { views: [] }).type, 'deadline.passed');
    const endsAt = budgetEndsAt(context) ?? assert.fail('it has begun');
    const last = factOf(lease, { now: endsAt - 1 });
    assert.ok(last.type === 'task.extended' && last.deadline_at === endsAt);
    build.send(last);
    assert.equal(
      deadlineFact(BUILD, build.context, key, {
        ...news,
        ...{ now: endsAt, views: [viewOf(node, lease)] },
      }).type,
      'deadline.passed',
    );
  });

  it('goes on for as long as a new master may not have heard of its node yet', () => {
    const { build, key } = running();
    const now = build.context.deadlines[key] ?? assert.fail(key);
    const news = { now, limitMs: LIMIT_MS, heardForMs: ADVERT_TTL_MS - 1, views: [] };
    const fact = deadlineFact(BUILD, build.context, key, news);
    assert.ok(fact.type === 'task.extended' && fact.deadline_at === now + ADVERT_TTL_MS);
  });

  it('is no concern of other deadlines', () => {
    const news = { now: 1, limitMs: LIMIT_MS, heardForMs: 0, views: [] };
    const fact = deadlineFact(BUILD, NEW_BUILD, 'budget', news);
    assert.deepEqual(fact, { type: 'deadline.passed', at: 1, key: 'budget' });
  });
});
