/** The README shows the machine as it is. */
import { test } from 'node:test';
import { sourcePath } from '../../test/source-tree.ts';
import { assertReadmeDiagram } from '../../test/state-diagram.ts';
import { monitorMachine } from './machine.ts';

test('the README shows the present machine', () => {
  assertReadmeDiagram(sourcePath('actors/resource-monitor/README.md'), monitorMachine);
});
