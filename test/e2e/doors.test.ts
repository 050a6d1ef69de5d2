/**
 * Every door of a running system, knocked at from the outside: HTTP as curl and browsers speak it,
 * the bus as any client speaks it. Goal: what comes in ends in the same build, what goes out has the
 * promised shape, and what must stay outside does.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { BuildSummary } from '../../protocol/build.ts';
import { ERROR_CODES } from '../../protocol/error-codes.ts';
import { MESSAGE_BYTES_MAX, PROMPT_LENGTH_MAX } from '../../protocol/limits.ts';
import { TestSystem } from './test-system.ts';

const TODOS = 'Create a REST API for a todo list with title, done and due date';
/** The scaffold engine refuses it at once: the cheapest build there is. */
const REFUSED = 'write a 3D game in Rust';
const JSON_HEADERS = { 'content-type': 'application/json' };

let system: TestSystem;
let folder: string;
/** A build that has succeeded, made through the bus. */
let done: BuildSummary;

before(
  async () => {
    system = await TestSystem.create();
    folder = mkdtempSync(join(tmpdir(), 'codegod-doors-'));
    await system.ok('up', '-d');
  },
  { timeout: 180_000 },
);

after(async () => {
  await system.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function post(path: string, body: unknown, headers: Record<string, string> = {}) {
  const answer = await fetch(system.http + path, {
    method: 'POST',
    headers: { ...JSON_HEADERS, ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
    signal: AbortSignal.timeout(150_000),
  });
  return { status: answer.status, headers: answer.headers, body: await json(answer) };
}

async function get(path: string) {
  const answer = await fetch(system.http + path, { signal: AbortSignal.timeout(15_000) });
  return { status: answer.status, headers: answer.headers, body: await json(answer) };
}

const json = async (answer: Response) => (await answer.json()) as Record<string, unknown>;

function assertError(body: unknown, code: string): void {
  const { error } = body as { error: Record<string, unknown> };
  assert.equal(error['code'], code, JSON.stringify(body));
  assert.ok((ERROR_CODES as readonly unknown[]).includes(error['code']));
  assert.ok(String(error['message']).length > 5, JSON.stringify(error));
  assert.ok(String(error['hint']).length > 3, JSON.stringify(error));
}

describe('POST /build', () => {
  test('ends in a FastAPI project whose pytest passed, told in the known shape', {
    timeout: 180_000,
  }, async () => {
    const tech_stack = { backend: 'FastAPI' };
    const { status, body } = await post('/build?wait=true', { prompt: TODOS, tech_stack });
    assert.equal(status, 200, JSON.stringify(body));
    assert.equal(body['success'], true, JSON.stringify(body));
    const { project, statistics, validation, path } = body as {
      project: { name: string; files: string[]; tasks_completed: number; timestamp: string };
      statistics: Record<string, number>;
      validation: { passed: boolean; tests_passed: number; command: string[] };
      path: string;
    };
    assert.ok(project.files.some(file => file.endsWith('.py')));
    assert.ok(!Number.isNaN(Date.parse(project.timestamp)));
    assert.ok(project.tasks_completed >= 2);
    assert.equal(statistics['completed'], statistics['total']);
    assert.equal(validation.passed, true);
    assert.ok(validation.tests_passed >= 3);
    assert.ok(validation.command.includes('pytest'));
    assert.ok(readdirSync(path).some(file => /requirements|pyproject/.test(file)));
  });

  test('with the same Idempotency-Key twice is one build', { timeout: 60_000 }, async () => {
    const key = { 'idempotency-key': 'doors-1' };
    const first = await post('/build', { prompt: REFUSED }, key);
    const second = await post('/build', { prompt: REFUSED }, key);
    assert.equal(first.status, 202);
    assert.equal(first.headers.get('location'), `/builds/${first.body['id']}`);
    assert.equal(second.status, 202);
    assert.equal(second.body['id'], first.body['id']);
    const other = await post('/build', { prompt: REFUSED });
    assert.notEqual(other.body['id'], first.body['id']);
    await system.ended(String(other.body['id']));
  });

  test('as curl sends it, without a content type of its own, is understood', async () => {
    const form = { 'content-type': 'application/x-www-form-urlencoded' };
    const { status } = await post('/build', JSON.stringify({ prompt: REFUSED }), form);
    assert.equal(status, 202);
  });
});

describe('the bare bus', () => {
  test('pub of a JSON request becomes a build', { timeout: 180_000 }, async () => {
    const tap = await system.wiretap('codegod.event.*.build.received');
    try {
      await system.ok('pub', 'codegod.build', JSON.stringify({ prompt: TODOS }));
      const { subject } = await tap.first;
      done = await system.ended(String(subject.split('.')[2]));
      assert.equal(done.state, 'succeeded', JSON.stringify(done.error));
    } finally {
      await tap.close();
    }
  });

  test('req of a bare text prints the acknowledgement; its sequence is the build', {
    timeout: 60_000,
  }, async () => {
    const { stream, seq } = JSON.parse(await system.ok('req', 'codegod.build', REFUSED));
    assert.equal(stream, 'CODEGOD_BUILD');
    const build = await system.ended(`b${seq}`);
    assert.equal(build.prompt, REFUSED);
    assert.equal(build.error?.code, 'scaffold_refused');
  });

  test('sub prints what comes, and ends after --count', { timeout: 60_000 }, async () => {
    const sub = system.run(['sub', 'codegod.telemetry.*', '--count', '1', '--json']);
    const { code, stdout } = await sub;
    assert.equal(code, 0);
    const { subject, body } = JSON.parse(stdout);
    assert.match(subject, /^codegod\.telemetry\./);
    assert.ok(JSON.parse(body).at > 0);
  });

  test('req where nobody serves says so', { timeout: 60_000 }, async () => {
    const { code, stderr } = await system.run(['req', 'codegod.nobody', '{}']);
    assert.equal(code, 3);
    assert.match(stderr, /nobody|serve|respond/i);
  });
});

interface ServerSentEvent {
  readonly id: number;
  readonly type: string;
  readonly data: { readonly bseq: number };
}

/** Reads events to the end of the stream, or until there are `countMax`. */
async function events(
  id: string,
  lastId: number | null,
  countMax = Number.POSITIVE_INFINITY,
): Promise<ServerSentEvent[]> {
  const cut = new AbortController();
  const answer = await fetch(`${system.http}/builds/${id}/events`, {
    headers: lastId === null ? {} : { 'last-event-id': String(lastId) },
    signal: AbortSignal.any([cut.signal, AbortSignal.timeout(120_000)]),
  });
  assert.match(answer.headers.get('content-type') ?? '', /^text\/event-stream/);
  const found: ServerSentEvent[] = [];
  const decoder = new TextDecoder();
  let text = '';
  assert.ok(answer.body);
  for await (const chunk of answer.body) {
    text += decoder.decode(chunk, { stream: true });
    const blocks = text.split('\n\n');
    text = blocks.pop() ?? '';
    found.push(...blocks.flatMap(eventOf));
    if (found.length >= countMax) break; // Leaving the loop closes the connection.
  }
  cut.abort();
  return found.slice(0, countMax);
}

function eventOf(block: string): ServerSentEvent[] {
  const field = (name: string): string =>
    new RegExp(`^${name}: ?(.*)$`, 'm').exec(block)?.[1] ?? '';
  if (field('id') === '') return [];
  return [{ id: Number(field('id')), type: field('event'), data: JSON.parse(field('data')) }];
}

describe('GET /builds/{id}/events', () => {
  test('resumed again and again while the build runs, has every fact once', {
    timeout: 180_000,
  }, async () => {
    const { body } = await post('/build', { prompt: TODOS });
    const id = String(body['id']);
    const pieces: ServerSentEvent[] = [];
    for (let rounds = 0; pieces.at(-1)?.type !== 'build.ended'; rounds++) {
      assert.ok(rounds < 100, 'the stream does not end');
      pieces.push(...(await events(id, pieces.at(-1)?.id ?? null, 5)));
    }
    assert.deepEqual(
      pieces.map(event => event.data.bseq),
      pieces.map((_event, index) => index + 1),
    );
    assert.deepEqual(pieces, await events(id, null));
    assert.equal((await system.ended(id)).state, 'succeeded');
  });
});

describe('GET /builds/{id}/archive', () => {
  test('unpacks to a clean git repository with one commit per task', async () => {
    const answer = await fetch(`${system.http}/builds/${done.id}/archive`);
    assert.equal(answer.headers.get('content-type'), 'application/gzip');
    const name = /filename="([a-z0-9-]+)\.tar\.gz"/.exec(
      answer.headers.get('content-disposition') ?? '',
    )?.[1];
    assert.equal(name, done.name);
    const file = join(folder, 'project.tar.gz');
    writeFileSync(file, new Uint8Array(await answer.arrayBuffer()));
    execFileSync('tar', ['-xzf', file, '-C', folder]);
    const project = readdirSync(folder, { withFileTypes: true }).find(one => one.isDirectory());
    assert.ok(project);
    const git = (...args: string[]): string =>
      execFileSync('git', ['-C', join(folder, project.name), ...args], { encoding: 'utf8' }).trim();
    assert.equal(git('status', '--porcelain'), '');
    git('fsck', '--strict');
    assert.equal(git('rev-parse', 'HEAD'), done.head);
    const merged = done.tasks.filter(task => task.state === 'merged' && task.type !== 'plan');
    // The first commit is the empty project.
    assert.equal(git('log', '--oneline').split('\n').length, merged.length + 1);
    assert.deepEqual(git('ls-files').split('\n').sort(), [...done.files].sort());
  });
});

describe('looking', () => {
  test('/mcp/servers lists the tool servers with their tools', async () => {
    const { body } = await get('/mcp/servers');
    const servers = body['servers'] as { name: string; installed: boolean; tools: string[] }[];
    assert.ok(servers.length >= 6, `${servers.length} servers`);
    const names = servers.map(({ name }) => name);
    for (const name of ['filesystem', 'git', 'memory']) assert.ok(names.includes(name), name);
    assert.ok(servers.find(({ name }) => name === 'filesystem')?.tools.includes('write_file'));
  });

  test('/nodes shows this machine whole', async () => {
    const { body } = await get('/nodes');
    const [node] = body['nodes'] as Record<string, { state: string }>[];
    for (const part of ['capacity', 'runtime', 'gateway']) {
      assert.equal(node?.[part]?.state, 'ready', part);
    }
  });

  test('/status has the fields that scripts know', async () => {
    const { body } = await get('/status');
    assert.equal(
      body['project_id'],
      (await get('/builds?limit=1')).body['builds']?.[0 as never]?.['id'],
    );
    assert.equal(body['backend'], 'scaffold');
    assert.equal(typeof (body['statistics'] as Record<string, unknown>)['total'], 'number');
  });

  test('/health, /healthz and /readyz', async () => {
    for (const path of ['/health', '/healthz']) {
      const { status, body } = await get(path);
      assert.equal(status, 200);
      assert.equal(body['status'], 'ok');
    }
    assert.deepEqual((await get('/readyz')).body, { ready: true, role: 'leading', bus: true });
  });

  test('/metrics is text that Prometheus reads', async () => {
    const answer = await fetch(`${system.http}/metrics`);
    assert.match(answer.headers.get('content-type') ?? '', /^text\/plain/);
    const lines = (await answer.text()).trim().split('\n');
    const sample = /^[a-z_:][a-z0-9_:]*(\{[^}]*\})? -?([0-9.e+-]+|NaN|\+?Inf)$/i;
    for (const line of lines) assert.ok(/^(# |$)/.test(line) || sample.test(line), line);
    const nodes = lines.filter(line => line.startsWith('codegod_nodes'));
    assert.match(nodes.join(), /^codegod_nodes(\{.*\})? 1$/);
  });

  test('/builds comes in pages, newest first, without gap', async () => {
    const seen: string[] = [];
    let before: string | null = null;
    do {
      const { body } = await get(`/builds?limit=2${before === null ? '' : `&before=${before}`}`);
      seen.push(...(body['builds'] as { id: string }[]).map(({ id }) => id));
      before = body['next'] as string | null;
    } while (before !== null);
    const newest = Number(seen[0]?.slice(1));
    assert.deepEqual(
      seen,
      Array.from({ length: newest }, (_, index) => `b${newest - index}`),
    );
  });

  test('/openapi.json describes the doors, and every reference in it leads somewhere', async () => {
    const { body } = await get('/openapi.json');
    assert.equal(body['openapi'], '3.1.0');
    const paths = body['paths'] as Record<string, Record<string, Operation>>;
    for (const path of [
      '/build',
      '/builds/{id}',
      '/builds/{id}/events',
      '/nodes',
      '/mcp/servers',
    ]) {
      assert.ok(paths[path], path);
    }
    for (const [path, methods] of Object.entries(paths)) {
      for (const [method, operation] of Object.entries(methods)) {
        assertOperation(`${method} ${path}`, path, operation);
      }
    }
    for (const reference of referencesIn(body)) {
      const target = reference
        .slice(2)
        .split('/')
        .reduce<unknown>((part, key) => (part as Record<string, unknown>)?.[key], body);
      assert.ok(reference.startsWith('#/') && target !== undefined, reference);
    }
  });
});

interface Operation {
  readonly summary?: string;
  readonly parameters?: readonly { readonly name: string; readonly in: string }[];
  readonly responses: Record<string, { readonly description?: string }>;
}

function assertOperation(name: string, path: string, operation: Operation): void {
  assert.ok(operation.summary, name);
  assert.ok(
    Object.keys(operation.responses).some(status => status.startsWith('2')),
    name,
  );
  for (const response of Object.values(operation.responses)) assert.ok(response.description, name);
  const wanted = [...path.matchAll(/\{(\w+)\}/g)].map(match => match[1]);
  const declared = (operation.parameters ?? []).filter(one => one.in === 'path');
  assert.deepEqual(
    declared.map(one => one.name),
    wanted,
    name,
  );
}

function referencesIn(value: unknown): string[] {
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) =>
    key === '$ref' && typeof inner === 'string' ? [inner] : referencesIn(inner),
  );
}

/** A request with headers that `fetch` would not send. */
function rawRequest(
  path: string,
  headers: Record<string, string>,
  body?: string,
): Promise<{ status: number; body: unknown }> {
  const { port } = new URL(system.http);
  const method = body === undefined ? 'GET' : 'POST';
  return new Promise((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port, path, method, headers }, answer => {
      let text = '';
      answer.setEncoding('utf8').on('data', chunk => {
        text += chunk;
      });
      answer.on('end', () => {
        resolve({ status: answer.statusCode ?? 0, body: JSON.parse(text) });
      });
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

describe('what must stay outside', () => {
  test('a page whose name was made to point here (Host)', async () => {
    for (const host of [
      'evil.example',
      'evil.example:8001',
      'localhost.evil.example',
      '10.0.0.1',
    ]) {
      const { status, body } = await rawRequest('/builds', { host });
      assert.equal(status, 403, host);
      assertError(body, 'denied');
    }
  });

  test('a page of another origin', async () => {
    for (const origin of ['https://evil.example', 'null', 'http://localhost.evil.example']) {
      const headers = { ...JSON_HEADERS, origin };
      const { status, body } = await rawRequest(
        '/build',
        headers,
        JSON.stringify({ prompt: TODOS }),
      );
      assert.equal(status, 403, origin);
      assertError(body, 'denied');
    }
  });

  test('a body that does not say that it is JSON', async () => {
    for (const type of ['text/plain', 'multipart/form-data; boundary=x', 'application/xml']) {
      const { status, body } = await post('/build', '{"prompt":"x"}', { 'content-type': type });
      assert.equal(status, 400, type);
      assertError(body, 'bad_request');
    }
  });

  test('a form of another page, in the type that curl sends', async () => {
    const headers = {
      'content-type': 'application/x-www-form-urlencoded',
      origin: 'http://evil.example',
    };
    const { status, body } = await rawRequest('/build', headers, '{"prompt":"x"}');
    assert.equal(status, 403);
    assertError(body, 'denied');
  });
});

describe('every refusal has a code, a sentence and a way out', () => {
  const long = 'x'.repeat(PROMPT_LENGTH_MAX + 1);
  const posts: readonly [string, string, unknown, number, string][] = [
    ['an empty prompt', '/build', { prompt: '' }, 400, 'bad_request'],
    ['a prompt of blanks', '/build', { prompt: ' \n\t ' }, 400, 'bad_request'],
    ['no prompt', '/build', {}, 400, 'bad_request'],
    ['an empty body', '/build', '', 400, 'bad_request'],
    ['half a body', '/build', '{"prompt":', 400, 'bad_request'],
    ['a list', '/build', [], 400, 'bad_request'],
    ['a name with a slash', '/build', { prompt: 'x', name: '../x' }, 400, 'bad_request'],
    ['a prompt that is too long', '/build', { prompt: long }, 400, 'bad_request'],
    ['a build that never was', '/builds/b999999/cancel', {}, 404, 'not_found'],
    ['an id that is none', '/builds/..%2F..%2Fetc/cancel', {}, 400, 'bad_request'],
    ['an action that is none', '/builds/b1/explode', {}, 404, 'not_found'],
  ];
  for (const [name, path, sent, status, code] of posts) {
    test(`${name}: ${status} ${code}`, async () => {
      const answer = await post(path, sent as never);
      assert.equal(answer.status, status, JSON.stringify(answer.body));
      assertError(answer.body, code);
    });
  }

  test('a body over the limit: 413 too_large', async () => {
    const { status, body } = await post('/build', { prompt: 'x'.repeat(MESSAGE_BYTES_MAX) });
    assert.equal(status, 413);
    assertError(body, 'too_large');
  });

  const gets: readonly [string, number, string][] = [
    ['/builds/b999999', 404, 'not_found'],
    ['/builds/b999999/events', 404, 'not_found'],
    ['/builds/b999999/archive', 404, 'not_found'],
    ['/builds/42', 400, 'bad_request'],
    ['/builds?limit=100000', 400, 'bad_request'],
    ['/nowhere', 404, 'not_found'],
  ];
  for (const [path, status, code] of gets) {
    test(`GET ${path}: ${status} ${code}`, async () => {
      const answer = await get(path);
      assert.equal(answer.status, status, JSON.stringify(answer.body));
      assertError(answer.body, code);
    });
  }

  test('cancelling what has ended: 409 conflict', async () => {
    const { status, body } = await post(`/builds/${done.id}/cancel`, {});
    assert.equal(status, 409);
    assertError(body, 'conflict');
    assert.match(JSON.stringify(body), /succeeded/);
  });
});
