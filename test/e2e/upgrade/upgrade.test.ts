/**
 * A new release starts on the state folder that an earlier one left when everything was killed.
 * Goal: every build that was under way ends well, whatever shape its facts, journals, messages and
 * subjects have; no turn of a model is generated twice, no tool fired twice, no fact is missing.
 *
 * Method: the folder was made by `make-state.ts` with a checkout of that release. Its logs are in it,
 * so what was done before and what is done now stands in the same files.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { decode } from '../../../protocol/codec.ts';
import { Fact } from '../../../protocol/fact.ts';
import { BuildId } from '../../../protocol/ids.ts';
import { STREAMS } from '../../../protocol/streams.ts';
import { eventsOf } from '../../../protocol/subjects.ts';
import { TestSystem } from '../test-system.ts';
import { HOME, releaseHome, unpackState } from './state-folder.ts';

const RELEASE = 'ae7ccf5';

test(`builds left by ${RELEASE} end, and nothing is done twice`, { timeout: 300_000 }, async t => {
  let stop = async (): Promise<void> => {};
  // The home goes last: `down` finds the system by it.
  t.after(async () => {
    await stop();
    releaseHome();
  });
  const left = await unpackState(RELEASE);
  const system = await TestSystem.create({ CODEGOD_BUILDS_MAX: '2' }, process.execPath, {
    home: HOME,
  });
  stop = () => system.stop();
  const before = { turns: turnsOf(system), calls: callsOf(system) };
  const isOf = (build: string) => (what: string) => /^b\d+/.exec(what)?.[0] === build;
  assert.ok(before.turns.some(isOf(left.calling)), 'a turn of it is answered');
  assert.ok(before.calls.some(isOf(left.calling)), 'a call of it is made');
  await system.ok('up', '-d');
  for (const id of Object.values(left)) {
    const build = await system.ended(id);
    assert.equal(build.state, 'succeeded', `${id}: ${JSON.stringify(build.error)}`);
    assert.ok(build.path !== null);
    assert.equal(git(build.path, 'status', '--porcelain'), '');
    git(build.path, 'fsck', '--strict');
    await assertWholeLog(system, id);
  }
  const turns = turnsOf(system);
  const calls = callsOf(system);
  assert.deepEqual(turns.slice(0, before.turns.length), before.turns);
  assert.deepEqual(twice(turns), [], 'turns generated twice');
  assert.deepEqual(twice(calls), [], 'calls fired twice');
  for (const id of Object.values(left)) assert.ok(turns.filter(isOf(id)).length >= 8, id);
});

const turnsOf = (system: TestSystem) => said(system, 'worker', 'turn.answered', 'attempt', 'turn');
const callsOf = (system: TestSystem) => said(system, 'mcp-gateway', 'call.fired', 'call_id');

/** What an actor's log says, before and after, of one event. */
function said(system: TestSystem, actor: string, event: string, ...keys: string[]): string[] {
  return system
    .logLines(actor)
    .filter(line => line['event'] === event)
    .map(line => keys.map(key => line[key]).join(' turn '));
}

const twice = (all: readonly string[]) => all.filter((what, index) => all.indexOf(what) !== index);

function git(path: string, ...args: string[]): string {
  return execFileSync('git', ['-C', path, ...args], { encoding: 'utf8' });
}

/** The facts of a build, those of both releases, without a gap and in order. */
async function assertWholeLog(system: TestSystem, id: string): Promise<void> {
  const bus = await system.bus();
  try {
    let count = 0;
    const filter = eventsOf(BuildId.parse(id));
    for await (const stored of bus.streams.read(STREAMS.event.name, { filter, from_seq: 1 })) {
      const fact = Fact.parse(decode(stored.body, stored.headers['content-type']));
      assert.equal(fact.bseq, ++count);
    }
    assert.ok(count > 10, `${count} facts`);
  } finally {
    await bus.close();
  }
}
