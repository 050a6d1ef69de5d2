/**
 * A small actor to be run as a process of its own by the tests of runtime/actor.ts. How it behaves is
 * told by its arguments: `hang` never drains, `crash` throws later, `refuse` fails to start, `fatal`
 * has a handler that gives up.
 */
import { z } from 'zod';
import { CodeGodError } from '../protocol/errors.ts';
import { runActor } from '../runtime/actor.ts';

const behaviour = process.argv[2] ?? 'well';

await runActor({
  name: 'worker',
  version: '0.1.0',
  description: 'an actor for tests',
  async start({ messenger, clock, log, bus }) {
    if (behaviour === 'refuse') throw new CodeGodError('port_in_use', 'port 8001 is taken');
    messenger.serve('codegod.node.test.reserve', z.looseObject({}), async request => request);
    if (behaviour === 'crash') {
      clock.setTimeout(() => {
        throw new Error('nobody catches this');
      }, 50);
    }
    if (behaviour === 'fatal') {
      const subjects = ['codegod.build'];
      await bus.streams.ensure({
        name: 'CODEGOD_BUILD',
        subjects,
        storage: 'memory',
        discard: 'new',
      });
      const options = {
        durable: 'test',
        filter: 'codegod.build',
        ack_wait_ms: 5_000,
        max_deliver: 5,
        max_ack_pending: 1,
        concurrency: 1,
      };
      await messenger.consume('CODEGOD_BUILD', options, z.unknown(), async () => ({
        kind: 'fatal',
        reason: 'the journal is gone',
      }));
      await messenger.append('codegod.build', 'build.requested', {});
    }
    return {
      details: { http_url: 'http://127.0.0.1:1' },
      async drain(deadlineMs) {
        log.info('test.drained', { deadline_ms: deadlineMs });
        if (behaviour === 'hang') await new Promise(() => {});
      },
      async stop() {
        log.info('test.let_go');
      },
    };
  },
});
