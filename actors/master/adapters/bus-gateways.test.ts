/** Goal: what a gateway was asked survives its stop: only who asked can cancel. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CodeGodError } from '../../../protocol/errors.ts';
import { BuildId, GatewayId } from '../../../protocol/ids.ts';
import { workspaceSubject } from '../../../protocol/subjects.ts';
import { systemClock } from '../../../runtime/clock.ts';
import { createMemoryBroker } from '../../../runtime/memory-bus.ts';
import { createMessenger } from '../../../runtime/messages.ts';
import type { NodesPort } from '../ports.ts';
import { createGatewayPort } from './bus-gateways.ts';

const GATEWAY = GatewayId.parse('house');

test('a gateway that stops in the middle is asked again, one that was told to stop is not', async t => {
  const broker = createMemoryBroker({ clock: systemClock });
  const [asking, serving] = [broker.connect('master'), broker.connect('gateway')];
  t.after(() => Promise.all([asking.close(), serving.close()]));
  let asked = 0;
  const service = serving.serve(workspaceSubject(GATEWAY, 'archive'), async (_, { signal }) => {
    asked += 1;
    await new Promise(resolve => signal.addEventListener('abort', resolve, { once: true }));
    throw new CodeGodError('cancelled', 'the work was cancelled');
  });
  const messenger = createMessenger(asking, {
    source: '/node/test/actor/master',
    clock: systemClock,
  });
  const nodes = { gatewayLife: () => 1, onChange: () => () => undefined };
  const gateways = createGatewayPort(messenger, nodes as unknown as NodesPort);
  const build = { build: BuildId.parse('b1') };
  const stopped = gateways.archive(GATEWAY, build, new AbortController().signal);
  while (asked === 0) await systemClock.sleep(5);
  await service.stop();
  await assert.rejects(stopped, (error: unknown) => {
    assert.ok(error instanceof CodeGodError);
    return error.code === 'no_responders' && error.retryable;
  });
  const ours = AbortSignal.abort(new CodeGodError('cancelled', 'the build is not wanted any more'));
  await assert.rejects(gateways.archive(GATEWAY, build, ours), { code: 'cancelled' });
});
