/** Copies that a rule wants are asked for: once at a time, and after a failure not at once again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CodeGodError } from '../../../protocol/errors.ts';
import { NodeId } from '../../../protocol/ids.ts';
import { LoadRequest } from '../../../protocol/inference.ts';
import { nodeSubject } from '../../../protocol/subjects.ts';
import { silentLogger } from '../../../runtime/log.ts';
import { createMessenger } from '../../../runtime/messages.ts';
import { GIB } from '../../../scheduling/test-nodes.ts';
import { Replicas } from './replicas.ts';
import { MODEL, TestPool } from './test-pool.ts';

const UNLOADED = { models: [{ name: MODEL, size_bytes: 4 * GIB }] };

test('a copy that a rule wants is loaded, and asked for again only after a while', async () => {
  const world = await TestPool.start();
  const { pool, clock, broker } = world;
  const source = '/node/a/actor/worker';
  const worker = createMessenger(broker.connect('a'), { source, clock });
  const asked: LoadRequest[] = [];
  let isBroken = true;
  worker.serve(nodeSubject(NodeId.parse('a'), 'load'), LoadRequest, async request => {
    asked.push(request);
    await clock.sleep(3_000);
    if (isBroken) throw new CodeGodError('engine_failed', 'it does not load');
    return { ok: true };
  });
  const messenger = createMessenger(world.bus, { source: '/node/x/actor/master', clock });
  const replicas = new Replicas({ messenger, clock, log: silentLogger });
  const stop = new AbortController();
  pool.onLoads = loads => replicas.wanted(loads, stop.signal, id => pool.loadEnded(id));
  await world.show('a', UNLOADED);
  await world.rule({ replicas_min: 1, context_tokens: 8_192 });
  assert.deepEqual(asked, [{ model: MODEL, context_tokens: 8_192 }]);
  const shown = async (byMs: number, more: object = UNLOADED): Promise<void> => {
    await clock.advance(byMs);
    await world.show('a', more);
  };
  await shown(1_000);
  await shown(9_000);
  assert.equal(asked.length, 1, 'while it loads, and soon after it failed');
  isBroken = false;
  await shown(30_000);
  assert.equal(asked.length, 2);
  await clock.advance(4_000);
  await shown(1_000, {});
  await shown(60_000, {});
  assert.equal(asked.length, 2, 'it is there now');
  stop.abort();
  world.stop();
});

test('a master that does not lead asks for nothing, and books nothing for it', async () => {
  const world = await TestPool.start();
  await world.show('a', UNLOADED);
  await world.rule({ replicas_min: 1 });
  await world.show('a', UNLOADED);
  const room = world.pool.preview({
    ...{ model: MODEL, context_tokens: 4_096, remote: 'deny', avoid: [], kind: 'inference' },
  });
  assert.equal(room.candidates[0]?.verdict, 'fits');
  world.stop();
});
