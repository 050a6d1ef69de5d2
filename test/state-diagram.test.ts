/** The drawing of a small machine with everything a machine may have. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fromPromise, setup } from 'xstate';
import { assertReadmeDiagram, stateDiagram } from './state-diagram.ts';

const machine = setup({
  types: { events: {} as { type: 'coin' } | { type: 'push' } | { type: 'kick' } },
  guards: { isStrong: () => true },
  actors: { repair: fromPromise(async () => {}) },
  delays: { boredom: 1_000 },
}).createMachine({
  id: 'turnstile',
  initial: 'locked',
  states: {
    locked: { on: { coin: 'open', kick: { target: 'broken', guard: 'isStrong' } } },
    open: { on: { push: 'locked' }, after: { boredom: 'locked' } },
    broken: {
      initial: 'waiting',
      states: {
        waiting: { always: 'repairing' },
        repairing: { invoke: { src: 'repair', onDone: '#turnstile.locked', onError: '#scrap' } },
      },
    },
    scrapped: { id: 'scrap', type: 'final' },
  },
});

const DRAWN = `stateDiagram-v2
  [*] --> locked
  locked --> open : coin
  locked --> broken : kick [isStrong]
  open --> locked : push
  open --> locked : after boredom
  state broken {
    [*] --> broken_waiting
    broken_waiting --> broken_repairing
    broken_repairing --> locked : repair done
    broken_repairing --> scrapped : repair error
  }
  scrapped --> [*]`;

test('a machine is drawn with its states, events, guards, delays and ends', () => {
  assert.equal(stateDiagram(machine), DRAWN);
});

test('a README with the present diagram passes, one with another fails', context => {
  const directory = mkdtempSync(join(tmpdir(), 'codegod-diagram-'));
  context.after(() => rmSync(directory, { recursive: true }));
  const readme = join(directory, 'README.md');
  writeFileSync(readme, `# Turnstile\n\n\`\`\`mermaid\n${DRAWN}\n\`\`\`\n\nEnd.\n`);
  assertReadmeDiagram(readme, machine);
  writeFileSync(readme, readFileSync(readme, 'utf8').replace('push', 'pull'));
  assert.throws(() => assertReadmeDiagram(readme, machine), /shows an old diagram/);
  writeFileSync(readme, 'nothing');
  assert.throws(() => assertReadmeDiagram(readme, machine), /has no/);
});
