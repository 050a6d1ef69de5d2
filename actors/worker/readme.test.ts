/** The README shows the machine as it is. */
import { test } from 'node:test';
import { sourcePath } from '../../test/source-tree.ts';
import { assertReadmeDiagram } from '../../test/state-diagram.ts';
import { attemptMachine } from './attempt-machine.ts';

test('the README shows the present states of an attempt', () => {
  assertReadmeDiagram(sourcePath('actors/worker/README.md'), attemptMachine);
});
