/** The README shows the machine as it is. */
import { join } from 'node:path';
import { test } from 'node:test';
import { packageRoot } from '../../runtime/paths.ts';
import { assertReadmeDiagram } from '../../test/state-diagram.ts';
import { monitorMachine } from './machine.ts';

test('the README shows the present machine', () => {
  assertReadmeDiagram(join(packageRoot(), 'actors/resource-monitor/README.md'), monitorMachine);
});
