/**
 * kill -9 of every process in the middle of every step. Goal: the build succeeds all the same, with
 * the very tree of an undisturbed run; no turn of a model is generated twice, no tool fired twice,
 * no fact is missing.
 *
 * Method: the test listens on the bus like a wiretap. A step is in its middle when the request that
 * begins it has been seen; at that instant the victim is killed. The supervisor restarts it.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { BuildSummary } from '../../protocol/build.ts';
import { decode } from '../../protocol/codec.ts';
import { Fact } from '../../protocol/fact.ts';
import { BuildId } from '../../protocol/ids.ts';
import { STREAMS } from '../../protocol/streams.ts';
import { eventsOf } from '../../protocol/subjects.ts';
import { TestSystem } from './test-system.ts';

const PROMPT = 'Create a REST API for authors with name and born';
const VICTIMS = ['master', 'worker', 'mcp-gateway', 'resource-monitor', 'bus'] as const;
const STEPS = {
  planning: 'codegod.task.*.*.plan.*',
  generation: 'codegod.mcp.*.list.*',
  'a tool call': 'codegod.mcp.*.call.*',
  'a merge': 'codegod.workspace.*.merge',
  'the checks': 'codegod.workspace.*.check',
} as const;

let system: TestSystem;
let wanted: string;

before(
  async () => {
    system = await TestSystem.create({ CODEGOD_SCAFFOLD_PACE_MS: '2' });
    await system.ok('up', '-d');
    const calm = await system.ended(await system.begin(PROMPT));
    assert.equal(calm.state, 'succeeded', JSON.stringify(calm));
    wanted = treeOf(calm);
  },
  { timeout: 180_000 },
);

after(() => system.stop());

function treeOf(build: BuildSummary): string {
  assert.ok(build.path !== null);
  return execFileSync('git', ['-C', build.path, 'rev-parse', 'HEAD^{tree}'], { encoding: 'utf8' });
}

/** Kills the victim at the first message on the subject after the build has begun. */
async function disturbedBuild(victim: string, subject: string): Promise<BuildSummary> {
  const pid = system.pidOf(victim);
  const step = await system.wiretap(subject);
  const struck = step.first.then(() => process.kill(pid, 'SIGKILL'));
  try {
    const id = await system.begin(PROMPT);
    await Promise.race([
      struck,
      sleep(60_000, null, { ref: false }).then(() => assert.fail(`nothing came on ${subject}`)),
    ]);
    return await system.ended(id);
  } finally {
    await step.close();
  }
}

/** The facts of a build, without a gap and in order. */
async function assertWholeLog(id: string): Promise<void> {
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

/** What an actor's log says of a build: no two lines of this event may be about the same thing. */
function assertOnce(actor: string, event: string, id: string, keys: readonly string[]): void {
  const seen = system
    .logLines(actor)
    .filter(line => line['event'] === event)
    .map(line => keys.map(key => line[key]).join(' turn '))
    // Attempts begin with the build and its stamp, calls with the build alone.
    .filter(what => what.startsWith(`${id}.`) || what.startsWith(`${id}-`));
  assert.ok(seen.length >= 8, `${seen.length} lines of ${event}`);
  const twice = seen.filter((what, index) => seen.indexOf(what) !== index);
  assert.deepEqual(twice, [], `${event} more than once`);
}

for (const [step, subject] of Object.entries(STEPS)) {
  describe(`in the middle of ${step}`, () => {
    for (const victim of VICTIMS) {
      test(`kill -9 ${victim}`, { timeout: 180_000 }, async () => {
        const build = await disturbedBuild(victim, subject);
        assert.equal(build.state, 'succeeded', JSON.stringify(build.error));
        assert.equal(treeOf(build), wanted);
        await assertWholeLog(build.id);
        assertOnce('worker', 'turn.answered', build.id, ['attempt', 'turn']);
        assertOnce('mcp-gateway', 'call.fired', build.id, ['call_id']);
      });
    }
  });
}
