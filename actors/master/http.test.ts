/** The master behind its HTTP door, on a real bus, with a worker and a gateway that play along. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { BUILD_ENDS, type BuildSummary } from '../../protocol/build.ts';
import { encode } from '../../protocol/codec.ts';
import { BUCKETS } from '../../protocol/streams.ts';
import { systemClock } from '../../runtime/clock.ts';
import { nodeView } from '../../scheduling/test-nodes.ts';
import { type NatsFixture, startNats } from '../../test/nats-fixture.ts';
import type { NodeEntry } from './http/door.ts';
import { TestMaster } from './test-master.ts';
import { scaffoldRefusal, TestPeers } from './test-peers.ts';

const PROMPT = { prompt: 'Create a REST API for a todo list' };
const ended = (summary: BuildSummary): boolean => BUILD_ENDS.includes(summary.state);

describe('the HTTP door', { timeout: 120_000 }, () => {
  let nats: NatsFixture;
  let master: TestMaster;
  let peers: TestPeers;

  before(async () => {
    nats = await startNats();
    master = await (await TestMaster.start({ url: nats.url })).settled();
    peers = new TestPeers(master.messenger, systemClock, 'node-a');
    await peers.start();
  });
  after(async () => {
    await peers?.stop();
    await master?.remove();
    await nats?.stop();
  });

  test('a prompt is accepted with an id and links, and becomes a finished build', async () => {
    const response = await master.post('/build', { ...PROMPT, tech_stack: { backend: 'FastAPI' } });
    assert.equal(response.status, 202);
    const { id, links } = (await response.json()) as { id: string; links: Record<string, string> };
    assert.equal(links['self'], `/builds/${id}`);
    const summary = await master.until(id, ended);
    assert.equal(summary.state, 'succeeded', JSON.stringify(summary.error));
    assert.equal(summary.path, '/projects/todo-list-api');
    assert.deepEqual(summary.models, ['scaffold']);
    assert.deepEqual(
      summary.tasks.map(task => task.state),
      ['merged', 'merged', 'merged'],
    );
    const first = peers.tasks.find(task => task.build === id);
    assert.equal(first?.kind, 'plan');
    assert.deepEqual(first?.tech_stack, { backend: 'FastAPI' });
    assert.ok(peers.finished.includes(id), 'worktrees are cleared away');
  });

  test('with ?wait=true the answer comes at the end, in the shape that scripts know', async () => {
    const response = await master.post('/build?wait=true', PROMPT);
    assert.equal(response.status, 200);
    const body = (await response.json()) as Record<string, unknown>;
    assert.equal(body['success'], true);
    assert.equal(body['status'], 'succeeded');
    assert.deepEqual(
      Object.keys(body).filter(key => /^(project|statistics|validation)$/.test(key)),
      ['project', 'statistics', 'validation'],
    );
  });

  test('the same Idempotency-Key gives the same build', async () => {
    const headers = { 'idempotency-key': 'once-1' };
    const ids = await Promise.all(
      [1, 2].map(async () => {
        const response = await master.post('/build', PROMPT, headers);
        return ((await response.json()) as { id: string }).id;
      }),
    );
    assert.equal(ids[0], ids[1]);
  });

  test('the events of a build stream to their end, and resume after Last-Event-ID', async () => {
    const id = await master.submit(PROMPT);
    const response = await master.fetch(`/builds/${id}/events`);
    assert.equal(response.headers.get('x-accel-buffering'), 'no');
    const events = parseEvents(await response.text());
    assert.equal(events[0]?.event, 'build.received');
    assert.equal(events.at(-1)?.event, 'build.ended');
    const middle = events[3];
    assert.ok(middle);
    const rest = await master.fetch(`/builds/${id}/events`, {
      headers: { 'last-event-id': middle.id },
    });
    assert.deepEqual(parseEvents(await rest.text()), events.slice(4));
  });

  test('decisions say where attempts went and why', async () => {
    const id = await master.submit(PROMPT);
    await master.until(id, ended);
    const { decisions } = (await master.get(`/builds/${id}/decisions`)) as {
      decisions: { task: string; decision: { reason: string } }[];
    };
    assert.deepEqual(
      decisions.map(({ task }) => task),
      ['plan', 'store', 'tests'],
    );
    assert.match(decisions[0]?.decision.reason ?? '', /scaffold on node-a: no model is installed/);
  });

  test('the archive can be downloaded at the end', async () => {
    const id = await master.submit(PROMPT);
    await master.until(id, ended);
    const response = await master.fetch(`/builds/${id}/archive`);
    assert.equal(response.headers.get('content-type'), 'application/gzip');
    assert.equal(await response.text(), 'archive');
  });

  test('what the scaffold refuses fails the build with its reason', async () => {
    peers.work = () => ({ outcome: 'failed', blame: 'model', error: scaffoldRefusal });
    const id = await master.submit({ prompt: 'a game' });
    const summary = await master.until(id, ended);
    peers.work = () => ({});
    assert.equal(summary.state, 'failed');
    assert.deepEqual(summary.error, scaffoldRefusal);
  });

  test('a model that nobody has: the build waits, says why, and can be cancelled', async () => {
    const id = await master.submit({ ...PROMPT, model: 'qwen9:900b' });
    const waiting = await master.until(id, ({ state }) => state === 'waiting_capacity');
    assert.match(waiting.waiting ?? '', /no ready node has the model qwen9:900b/);
    assert.equal((await master.post(`/builds/${id}/cancel`)).status, 200);
    assert.equal((await master.until(id, ended)).state, 'cancelled');
    const again = await master.post(`/builds/${id}/pause`);
    assert.equal(again.status, 409);
    assert.equal(((await again.json()) as { error: { code: string } }).error.code, 'conflict');
  });

  test('cancelling reaches the worker that is on the task', async () => {
    peers.work = message => (message.kind === 'plan' ? {} : null);
    const id = await master.submit(PROMPT);
    await master.until(id, ({ tasks }) =>
      tasks.some(task => task.state === 'running' && task.id !== 'plan'),
    );
    await master.post(`/builds/${id}/cancel`);
    const summary = await master.until(id, ended);
    peers.work = () => ({});
    assert.equal(summary.state, 'cancelled');
    assert.deepEqual(
      peers.cancelled.filter(({ build }) => build === id).map(({ task }) => task),
      ['store'],
    );
    assert.equal((await master.post(`/builds/${id}/retry`)).status, 200);
    assert.equal((await master.until(id, ended)).state, 'succeeded');
  });

  test('plan_mode approve waits for the person', async () => {
    const id = await master.submit({ ...PROMPT, plan_mode: 'approve' });
    await master.until(id, ({ state }) => state === 'awaiting_approval');
    await master.post(`/builds/${id}/approve`);
    assert.equal((await master.until(id, ended)).state, 'succeeded');
  });

  test('failing checks are repaired', async () => {
    peers.checkPasses = ({ round }) => round >= 2;
    const id = await master.submit(PROMPT);
    const summary = await master.until(id, ended);
    peers.checkPasses = () => true;
    assert.equal(summary.state, 'succeeded');
    assert.equal(summary.checks.length, 3);
    const repair = peers.tasks.find(task => task.build === id && task.kind === 'repair');
    assert.match(repair?.previous_error ?? '', /not ok/);
  });

  test('a gateway that is killed during the checks is asked again when it is back', async () => {
    let asked = 0;
    peers.checkBegins = async () => {
      asked += 1;
      if (asked === 1) await new Promise(() => {});
    };
    const id = await master.submit(PROMPT);
    await master.until(id, ({ state }) => state === 'verifying' && asked === 1);
    peers.epoch += 1;
    await peers.advertise();
    const summary = await master.until(id, ended);
    peers.checkBegins = async () => {};
    assert.equal(summary.state, 'succeeded');
    assert.equal(summary.checks.length, 1, 'under the same number');
  });

  test('hostile bytes on the bus are kept as dead letters and explained by their build', async () => {
    const hostile: readonly (readonly [Uint8Array, RegExp])[] = [
      [Uint8Array.from({ length: 512 }, (_, index) => (index * 97 + 128) % 256), /bad_message/],
      [new TextEncoder().encode('{"prompt": "broken'), /bad_message/],
      [new TextEncoder().encode('{"prompt": 7}'), /prompt/],
    ];
    for (const [bytes, reason] of hostile) {
      const result = await master.bus.streams.append('codegod.build', bytes);
      assert.equal(result.kind, 'appended');
      const id = result.kind === 'appended' ? `b${result.seq}` : '';
      const summary = await master.until(id, ended);
      assert.equal(summary.state, 'failed');
      assert.match(JSON.stringify(summary.error), reason);
    }
    const dead = await master.bus.streams.info('CODEGOD_DEAD');
    assert.equal(dead?.messages, hostile.length);
  });

  test('a bare prompt on the bus is a build', async () => {
    const text = new TextEncoder().encode('Create a REST API for songs with title and artist');
    const result = await master.bus.streams.append('codegod.build', text);
    const id = result.kind === 'appended' ? `b${result.seq}` : '';
    const summary = await master.until(id, ended);
    assert.equal(summary.state, 'succeeded');
    assert.equal(summary.prompt, 'Create a REST API for songs with title and artist');
  });

  test('lists are paged, the newest first', async () => {
    const first = (await master.get('/builds?limit=2')) as { builds: BuildSummary[]; next: string };
    assert.equal(first.builds.length, 2);
    const second = (await master.get(`/builds?limit=2&before=${first.next}`)) as {
      builds: BuildSummary[];
    };
    const ids = [...first.builds, ...second.builds].map(({ id }) => Number(id.slice(1)));
    assert.deepEqual(
      ids,
      ids.toSorted((left, right) => right - left),
    );
    assert.equal(new Set(ids).size, 4);
  });

  test('nodes, tool servers, status, health and metrics are shown', async () => {
    const { nodes } = (await master.get('/nodes')) as { nodes: { node: string }[] };
    assert.deepEqual(
      nodes.map(({ node }) => node),
      ['node-a'],
    );
    const { servers } = (await master.get('/mcp/servers')) as { servers: { name: string }[] };
    assert.equal(servers[0]?.name, 'filesystem');
    const status = (await master.get('/status')) as Record<string, unknown>;
    assert.equal(status['backend'], 'scaffold');
    assert.equal(status['role'], 'leading');
    assert.equal(((await master.get('/health')) as { status: string }).status, 'ok');
    assert.equal((await master.fetch('/readyz')).status, 200);
    assert.match(
      await (await master.fetch('/metrics')).text(),
      /codegod_nodes\{actor="master"\} 1/,
    );
    const description = (await master.get('/openapi.json')) as { paths: Record<string, unknown> };
    assert.ok('/builds/{id}/events' in description.paths);
  });

  test('a machine of an earlier release is listed with what to do', async () => {
    const bucket = master.bus.kv(BUCKETS.node.name);
    const { runtime } = nodeView({ id: 'old', outdated: true });
    await bucket.put('old.runtime', encode(runtime?.advert));
    const notesOf = async (): Promise<Record<string, readonly string[]>> => {
      const { nodes } = (await master.get('/nodes')) as { nodes: NodeEntry[] };
      return Object.fromEntries(nodes.map(({ node, notes }) => [node, notes]));
    };
    let notes = await notesOf();
    while (notes['old'] === undefined) notes = await notesOf();
    assert.match(notes['old'].join(), /older release .*: update it/);
    assert.deepEqual(notes['node-a'], []);
    await bucket.delete('old.runtime');
    while ((await notesOf())['old']?.length !== 0) await systemClock.sleep(10);
    const metrics = await (await master.fetch('/metrics')).text();
    assert.match(metrics, /codegod_nodes\{actor="master"\} 1/, 'who went away is no longer heard');
  });

  test('errors say what is wrong and what to do', async () => {
    const cases: readonly (readonly [Promise<Response>, number, string])[] = [
      [master.fetch('/builds/b999999'), 404, 'not_found'],
      [master.fetch('/builds/nonsense'), 400, 'bad_request'],
      [master.fetch('/nowhere'), 404, 'not_found'],
      [master.post('/build', { prompt: '  ' }), 400, 'bad_request'],
      [master.post('/builds/b999999/cancel'), 404, 'not_found'],
      [master.post('/build', PROMPT, { 'content-type': 'text/plain' }), 400, 'bad_request'],
      [master.post('/build', PROMPT, { origin: 'http://evil.example' }), 403, 'denied'],
      [master.post('/build', { prompt: 'x'.repeat(300_000) }), 413, 'too_large'],
      [master.fetch('/builds?limit=100000'), 400, 'bad_request'],
    ];
    for (const [answer, status, code] of cases) {
      const response = await answer;
      const { error } = (await response.json()) as { error: { code: string; hint: string } };
      assert.equal(error.code, code);
      assert.equal(response.status, status, error.code);
      assert.ok(error.hint.length > 0);
    }
  });
});

interface ParsedEvent {
  readonly id: string;
  readonly event: string;
}

function parseEvents(text: string): ParsedEvent[] {
  return text
    .split('\n\n')
    .filter(block => block.includes('id: '))
    .map(block => ({
      id: /^id: (.*)$/m.exec(block)?.[1] ?? '',
      event: /^event: (.*)$/m.exec(block)?.[1] ?? '',
    }));
}
