/** Goal: a shell reads back the very text. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { outputOf } from '../runtime/spawn.ts';
import { shellWord } from './shell-word.ts';

test('paths of every kind come through a shell as they are', () => {
  const paths = [
    '/home/ada/projects/todo-api-b1',
    '/home/ada/My Projects/täglich',
    "/tmp/it's/$HOME/`x`",
    '/tmp/a\nb',
    '~/x',
    '',
    '/tmp/*?[a]{b,c};&|<>()#!"\\',
  ];
  for (const path of paths) {
    assert.equal(outputOf('sh', ['-c', `printf %s ${shellWord(path)}`]), path);
  }
  assert.equal(shellWord('/home/ada/projects/todo-api-b1'), '/home/ada/projects/todo-api-b1');
});
