/**
 * Four machines, three of which joined by tokens, and what becomes of the work on them when one is
 * killed whole, one is cut off and one is stopped in the middle. Goal: every build ends, with the very
 * tree of a calm one; no attempt is held by two nodes; what comes back late changes nothing; what
 * comes back is taken in again under its own name. And the pool's door, with real engines on two.
 *
 * Method: one house for all cases, since to start one takes seconds. The three faults strike at the
 * same instant, each in the middle of an attempt of another build.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { decode } from '../../protocol/codec.ts';
import type { Fact } from '../../protocol/fact.ts';
import type { BuildId } from '../../protocol/ids.ts';
import { DrainReply } from '../../protocol/inference.ts';
import { RuntimeAdvert } from '../../protocol/node.ts';
import { whyNoNamespaces } from './netns.ts';
import { findOllama, type OllamaFiles, serveOllama } from './netns-ollama.ts';
import { House, treeOf } from './pool-world.ts';
import { eventually } from './test-system.ts';

const PROMPT = 'Create a REST API for authors with name and born';
const NODES = ['attic', 'cellar', 'kitchen'] as const;
const [KILLED, CUT, STOPPED] = NODES;
/** Those that are still in after all faults. */
const ENGINES = [KILLED, STOPPED] as const;
/** From the fault to the next attempt elsewhere. */
const REPLACED_MS = 20_000;
const skip = whyNoNamespaces() ?? false;
const OPTIONS = { timeout: 180_000, skip };

let house: House;
/** A program and models, or why there are none. */
let ollama: OllamaFiles | string;
/** What each build said, as it came. */
const told = new Map<BuildId, Fact[]>();
const following: Promise<void>[] = [];
const watching = new AbortController();
/** Attempts that two nodes held at once, and nodes that held more than they have places. */
const doubleBookings: string[] = [];
const builds = new Map<string, BuildId>();
let struckAt = 0;
let epochsBefore: readonly number[] = [];

before(
  async () => {
    if (skip !== false) return;
    // An attempt must last until the faults strike, and beyond.
    const paced = { CODEGOD_SCAFFOLD_PACE_MS: '200' };
    const building = House.build(NODES, name => (name === 'hub' ? {} : paced));
    [house, ollama] = await Promise.all([building, findOllama()]);
    watchLeases();
  },
  { timeout: 180_000 },
);

after(async () => {
  watching.abort();
  await Promise.all(following);
  await house?.remove();
});

function watchLeases(): void {
  const held = new Map<string, ReadonlySet<string>>();
  house.bus.subscribe('$KV.codegod_node.*.runtime', ({ subject, body }) => {
    if (body.length === 0) return;
    const { node, slots, leases } = RuntimeAdvert.parse(decode(body, undefined));
    if (leases.length > slots) doubleBookings.push(`${leases.length} on ${slots}: ${subject}`);
    const attempts = leases.map(lease => `${lease.build}.${lease.task}.${lease.attempt}`);
    held.set(node, new Set(attempts));
    for (const attempt of attempts) {
      const other = [...held].find(([name, set]) => name !== node && set.has(attempt));
      if (other !== undefined) doubleBookings.push(`${attempt} on ${node} and ${other[0]}`);
    }
  });
}

/** Lets work go to these machines only. */
async function only(...takers: readonly string[]): Promise<void> {
  for (const name of ['hub', ...NODES]) {
    const request = { drain: !takers.includes(name) };
    const body = new TextEncoder().encode(JSON.stringify(request));
    const reply = await house.bus.ask(`codegod.node.${name}.drain`, body, { timeout_ms: 10_000 });
    DrainReply.parse(decode(reply.body, undefined));
  }
}

function follow(build: BuildId): void {
  const facts: Fact[] = [];
  told.set(build, facts);
  const reading = async (): Promise<void> => {
    for await (const fact of house.facts(build, watching.signal)) facts.push(fact);
  };
  following.push(reading());
}

const factsOf = (name: string): readonly Fact[] => {
  const build = builds.get(name);
  return (build === undefined ? undefined : told.get(build)) ?? [];
};

/** Where the attempts of a build went, in order. */
const placements = (name: string) =>
  factsOf(name).flatMap(fact => (fact.type === 'task.placed' ? [fact] : []));

async function beginOn(name: string): Promise<void> {
  await only(name);
  const build = await house.begin(PROMPT);
  builds.set(name, build);
  follow(build);
  await eventually(() => factsOf(name).some(({ type }) => type === 'task.dispatched'), 30_000);
  assert.equal(placements(name)[0]?.node, name);
}

async function ended(name: string): Promise<Extract<Fact, { type: 'build.ended' }>> {
  await eventually(() => factsOf(name).at(-1)?.type === 'build.ended', 90_000);
  const last = factsOf(name).at(-1);
  assert.ok(last?.type === 'build.ended');
  return last;
}

function treeIn(name: string): string {
  const created = factsOf(name).find(fact => fact.type === 'workspace.created');
  assert.ok(created?.type === 'workspace.created');
  return treeOf(created.path);
}

describe('a house of four machines', { skip }, () => {
  test('is one system, of which each machine bears the name in its token', OPTIONS, async () => {
    const nodes = JSON.parse(await house.hub.ok('nodes', '--json')) as { node: string }[];
    assert.deepEqual(nodes.map(({ node }) => node).sort(), ['attic', 'cellar', 'hub', 'kitchen']);
    const node = house.node(KILLED);
    const [status, doctor] = await Promise.all([
      node.ok('status', '--json'),
      node.ok('doctor', '--json'),
    ]);
    const { actors } = JSON.parse(status) as { actors: { name: string; state: string }[] };
    assert.deepEqual(
      actors.map(({ name, state }) => [name, state]),
      [
        ['resource-monitor', 'ready'],
        ['worker', 'ready'],
      ],
    );
    assert.equal(JSON.parse(doctor).healthy, true);
  });

  test('a drained machine takes nothing new and ends what it does', OPTIONS, async () => {
    await beginOn(KILLED);
    await beginOn(CUT);
    await beginOn(STOPPED);
    await only('hub');
    for (const name of NODES) {
      const goesOn = async (): Promise<boolean> => {
        const worker = await house.worker(name);
        return worker?.state === 'draining' && worker.leases.length === 1;
      };
      await eventually(goesOn, 5_000);
    }
  });

  test(
    'attempts on a machine that is killed, cut off or stopped start elsewhere in 20 s',
    OPTIONS,
    async () => {
      epochsBefore = await Promise.all(
        NODES.map(async name => (await house.worker(name))?.epoch ?? 0),
      );
      struckAt = Date.now();
      await Promise.all([
        house.node(KILLED).net.signal('SIGKILL'),
        house.node(CUT).net.cut(),
        house.node(STOPPED).net.signal('SIGSTOP'),
      ]);
      const calm = await house.begin(PROMPT);
      builds.set('calm', calm);
      follow(calm);
      await eventually(() => NODES.every(name => placements(name).length > 1), 2 * REPLACED_MS);
      for (const name of NODES) {
        const [first, second] = placements(name);
        assert.ok(first && second);
        assert.equal(second.node, 'hub');
        assert.equal(second.task, first.task);
        assert.equal(second.attempt, first.attempt + 1);
        const replacedMs = second.at - struckAt;
        assert.ok(replacedMs <= REPLACED_MS, `${name}: after ${replacedMs} ms`);
      }
    },
  );

  test('what the cut off and the stopped bring in late changes nothing', OPTIONS, async () => {
    await house.node(CUT).net.mend();
    await house.node(STOPPED).net.signal('SIGCONT');
    const ends = await Promise.all(NODES.map(name => ended(name)));
    assert.deepEqual(
      ends.map(({ state }) => state),
      ['succeeded', 'succeeded', 'succeeded'],
    );
    for (const name of NODES) {
      const [lost] = placements(name);
      const ofLost = factsOf(name).filter(
        fact =>
          (fact.type === 'task.merged' || fact.type === 'task.failed') &&
          fact.task === lost?.task &&
          fact.attempt === lost.attempt,
      );
      assert.deepEqual(ofLost, [], `${name}: the lost attempt counts`);
    }
    assert.equal((await ended('calm')).state, 'succeeded');
    for (const name of NODES) assert.equal(treeIn(name), treeIn('calm'), name);
    assert.deepEqual(doubleBookings, []);
  });

  test(
    'who comes back is taken in under the old name, and holds nothing of before',
    OPTIONS,
    async () => {
      assert.equal(await house.worker(KILLED), null);
      await house.node(KILLED).ok('up', '-d');
      await only('hub', ...NODES);
      const isBack = async (name: string): Promise<boolean> => {
        const worker = await house.worker(name);
        return worker?.state === 'ready' && worker.leases.length === 0;
      };
      for (const name of NODES) await eventually(() => isBack(name), 30_000);
      const epochs = await Promise.all(
        NODES.map(async name => (await house.worker(name))?.epoch ?? 0),
      );
      assert.ok((epochs[0] ?? 0) > (epochsBefore[0] ?? 0), 'the killed one has a new life');
      assert.deepEqual(epochs.slice(1), epochsBefore.slice(1), 'the others have not ended');
    },
  );

  test(
    'a revoked machine is out at once, and its token opens nothing any more',
    OPTIONS,
    async () => {
      await house.hub.ok('token', 'revoke', CUT);
      const body = new TextEncoder().encode('{"drain":false}');
      const asked = house.bus.ask(`codegod.node.${CUT}.drain`, body, { timeout_ms: 5_000 });
      await assert.rejects(asked, { code: 'no_responders' });
      const again = house.connect(house.node(CUT).seed());
      await assert.rejects(again, { code: 'unauthorized' });
      assert.ok((await house.worker(STOPPED)) !== null, 'the others stay');
    },
  );

  describe('with a real Ollama on two of them', () => {
    before(
      async () => {
        if (typeof ollama === 'string') return;
        for (const name of ENGINES) serveOllama(house.node(name), ollama);
        const haveModel = async (): Promise<boolean> =>
          (await Promise.all(ENGINES.map(name => modelsOn(name)))).every(found => found.length > 0);
        await eventually(haveModel, 60_000);
      },
      { timeout: 120_000 },
    );

    test('a client is answered, though the machine it asks has no model', OPTIONS, async t => {
      if (typeof ollama === 'string') return t.skip(ollama);
      const { status, node, text } = await chat('hello');
      assert.equal(status, 200, text);
      assert.ok(
        ENGINES.some(name => name === node),
        `${node}`,
      );
      assert.match(text, /^data: \{.*"object":"chat\.completion\.chunk"/m);
      assert.match(text, /^data: \[DONE\]$/m);
    });

    test('and by the other when the one that has it loaded is killed', OPTIONS, async t => {
      if (typeof ollama === 'string') return t.skip(ollama);
      const { node } = await chat('who is there?');
      const other = ENGINES.find(name => name !== node);
      assert.ok(other !== undefined && node !== null);
      await house.node(node).net.signal('SIGKILL');
      const next = await chat('and now?');
      assert.equal(next.status, 200, next.text);
      assert.equal(next.node, other);
    });
  });

  test('no process anywhere was refused anything, or shows a seed', OPTIONS, async () => {
    const seed = /SU[A-Z2-7]{56}/;
    for (const machine of [house.hub, ...NODES.map(name => house.node(name))]) {
      const logs = machine.logs();
      assert.doesNotMatch(logs, /bus\.permission_denied/, logs);
      assert.doesNotMatch(logs, seed);
      for (const pid of await machine.net.processes()) assert.doesNotMatch(commandOf(pid), seed);
    }
  });
});

async function modelsOn(name: string): Promise<readonly string[]> {
  const engines = (await house.worker(name))?.engines ?? [];
  return engines.filter(one => one.name === 'ollama').flatMap(one => one.models.map(m => m.name));
}

/** Streams, as the official client of OpenAI would. What a random model says is noise. */
async function chat(content: string) {
  const answer = await fetch(`${house.http}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      model: 'tiny',
      messages: [{ role: 'user', content }],
      stream: true,
      max_tokens: 16,
    }),
    signal: AbortSignal.timeout(60_000),
  });
  const node = answer.headers.get('x-codegod-node');
  return { status: answer.status, node, text: await answer.text() };
}

/** Empty where the process has just ended. */
function commandOf(pid: number): string {
  const file = `/proc/${pid}/cmdline`;
  return existsSync(file) ? readFileSync(file, 'utf8') : '';
}
