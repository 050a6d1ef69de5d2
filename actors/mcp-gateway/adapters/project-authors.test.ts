/** Who wrote a project: what a gateway knows of itself, over restarts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BuildId, NodeId } from '../../../protocol/ids.ts';
import { memoryJournal } from '../../../runtime/journal.ts';
import { GATEWAY_KEYS } from '../../../runtime/journal-keys.ts';
import { projectAuthors } from './project-authors.ts';

const OWN = NodeId.parse('hub');
const [first, second] = [{ build: BuildId.parse('b1') }, { build: BuildId.parse('b2') }];

test('a project is ours until anybody else writes in it, and never again', async () => {
  const journal = await memoryJournal(GATEWAY_KEYS);
  const authors = projectAuthors(journal, OWN);
  assert.equal(await authors.isOurs(first), false, 'nothing is known of it');
  for (const build of [first, second]) await authors.begins(build);
  await authors.writes(first, { node: OWN, engine: 'scaffold' });
  assert.equal(await authors.isOurs(first), true);
  await authors.writes(first, { node: OWN, engine: 'ollama' });
  await authors.writes(second, { node: NodeId.parse('attic'), engine: 'scaffold' });
  const later = projectAuthors(journal, OWN);
  for (const build of [first, second]) {
    await later.writes(build, { node: OWN, engine: 'scaffold' });
    await later.begins(build);
    assert.equal(await later.isOurs(build), false, build.build);
  }
});
