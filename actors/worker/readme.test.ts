/** The README shows the machine as it is. */
import { join } from 'node:path';
import { test } from 'node:test';
import { packageRoot } from '../../runtime/paths.ts';
import { assertReadmeDiagram } from '../../test/state-diagram.ts';
import { attemptMachine } from './attempt-machine.ts';

test('the README shows the present states of an attempt', () => {
  assertReadmeDiagram(join(packageRoot(), 'actors/worker/README.md'), attemptMachine);
});
