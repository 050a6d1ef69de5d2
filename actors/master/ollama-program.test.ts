/**
 * Goal: Ollama's own program, pointed at the door, does what it does on an Ollama, or says clearly why
 * not. Method: every subcommand of the real program; behind the door a real bus, a real worker and a
 * real Ollama with small models.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { systemClock } from '../../runtime/clock.ts';
import { type NatsFixture, startNats } from '../../test/nats-fixture.ts';
import {
  findRealOllama,
  type RealOllama,
  realOllamaProgram,
  startRealOllama,
} from '../../test/real-ollama/real-ollama.ts';
import { SUITE_MODELS } from '../../test/real-ollama/test-models.ts';
import { sourcePath } from '../../test/source-tree.ts';
import { TestMaster } from './test-master.ts';
import { TestNode } from './test-node.ts';

const RUN_MS = 60_000;
const skip = (await findRealOllama()) ?? false;

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

describe("Ollama's own program", { skip, timeout: 300_000 }, () => {
  let nats: NatsFixture;
  let master: TestMaster;
  let node: TestNode;
  let server: RealOllama;
  let home: string;

  before(async () => {
    nats = await startNats();
    home = await mkdtemp(join(tmpdir(), 'codegod-program-'));
    const started = await startRealOllama({ models: SUITE_MODELS });
    assert.ok(started.kind === 'running');
    server = started.ollama;
    master = await TestMaster.start({
      url: nats.url,
      aliases: { 'gpt-4o': 'tiny', 'qwen2.5-coder:7b': 'tiny' },
    });
    node = await TestNode.start({ url: nats.url, id: 'node-a', host: server.host });
    await until(async () => (await program('list')).stdout.includes('tiny:latest'));
  });
  after(async () => {
    await node?.stop();
    await master?.remove();
    await nats?.stop();
    await server?.stop();
    await rm(home, { recursive: true, force: true });
  });

  /** Asks the door, or the node's own server where its host is given. */
  const ollama = (args: readonly string[], host: string): Promise<Ended> =>
    new Promise(resolve => {
      const env = { PATH: process.env['PATH'] ?? '', HOME: home, OLLAMA_HOST: host };
      const child = execFile(
        realOllamaProgram(),
        args,
        { env, cwd: home, timeout: RUN_MS, maxBuffer: 64 << 20 },
        (error, stdout, stderr) => {
          const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
          resolve({ code, stdout, stderr: plain(stderr) });
        },
      );
      child.stdin?.end();
    });
  const program = (...args: string[]): Promise<Ended> => ollama(args, master.http.url);
  const direct = (...args: string[]): Promise<Ended> => ollama(args, server.host);

  test('run answers, with a name of either kind, and says how long that took', async () => {
    for (const model of ['tiny', 'tiny:latest', 'library/tiny', 'auto', 'gpt-4o']) {
      const { code, stdout, stderr } = await program('run', model, '--verbose', 'Hello');
      assert.equal(code, 0, `${model}: ${stderr}`);
      assert.notEqual(stdout.trim(), '', model);
      assert.match(stderr, /eval rate:/, model);
    }
  });

  test('the line that the documentation prints answers', async () => {
    const page = await readFile(sourcePath('docs/pool.md'), 'utf8');
    const [, host, line] = /`OLLAMA_HOST=(\S+) ollama ([^`]+)`/.exec(page) ?? [];
    assert.ok(host !== undefined && line !== undefined, 'there is such a line');
    const base = master.http.url + new URL(host).pathname.replace(/\/$/, '');
    const { code, stdout, stderr } = await ollama([...line.split(' '), 'Hello'], base);
    assert.equal(code, 0, stderr);
    assert.notEqual(stdout.trim(), '');
  });

  test('run of a model that embeds gives its numbers, as the server itself does', async () => {
    const { code, stdout } = await program('run', 'embeds', 'some text');
    assert.equal(code, 0);
    assert.equal(stdout, (await direct('run', 'embeds', 'some text')).stdout);
  });

  test('run of a model that nobody has pulls it, and says what became of that', async () => {
    const { code, stderr } = await program('run', 'registry.invalid/no/model', 'Hello');
    assert.notEqual(code, 0);
    assert.match(stderr, /pulling manifest|registry\.invalid/);
  });

  test('show tells all that the server itself tells', async () => {
    for (const flag of [
      '--modelfile',
      '--parameters',
      '--template',
      '--system',
      '--license',
      '-v',
    ]) {
      const [ours, theirs] = [
        await program('show', 'tiny', flag),
        await direct('show', 'tiny', flag),
      ];
      assert.equal(ours.code, theirs.code, flag);
      assert.deepEqual(linesOf(ours.stdout), linesOf(theirs.stdout), flag);
    }
    assert.match((await program('show', 'tiny')).stdout, /context length\s+\d+/);
    assert.equal((await program('show', 'auto')).code, 0);
    const missing = await program('show', 'nothing');
    assert.notEqual(missing.code, 0);
    assert.match(missing.stderr, /not found/);
  });

  test('list and ps print every column', async () => {
    const { stdout: listed } = await program('list');
    for (const { name } of SUITE_MODELS) assert.match(listed, new RegExp(`^${name}:latest `, 'm'));
    assert.match(listed, /^auto /m);
    assert.match(listed, /^gpt-4o /m);
    assert.doesNotMatch(listed, /Never/);
    assert.match(listed, /ago\s*$/m);
    await program('run', 'tiny', 'Hello');
    await until(async () => {
      const { stdout } = await program('ps');
      return /^tiny:latest .*100% CPU .* from now/m.test(stdout);
    });
  });

  test('a model stays for as long as is wished, and else for the time that is set', async () => {
    const untilOf = async (model: string): Promise<string> => {
      const { stdout } = await program('ps');
      return new RegExp(`^${model}:latest .*?(\\S+ \\S+) from now`, 'm').exec(stdout)?.[1] ?? '';
    };
    const waited = async (model: string, pattern: RegExp): Promise<void> =>
      await until(async () => pattern.test(await untilOf(model)));
    await program('run', 'third', '--keepalive', '90m', 'Hello');
    await waited('third', /^(an hour|1 hours?|90 minutes|89 minutes|About an hour)/i);
    await program('run', 'third', 'Hello');
    await waited('third', /^1[45] minutes/);
    await program('run', 'third', '--keepalive', '1s', 'Hello');
    await until(async () => !(await direct('ps')).stdout.includes('third'));
  });

  test('stop takes a model out of the memory', async () => {
    await program('run', 'other', 'Hello');
    const { code, stderr } = await program('stop', 'other');
    assert.equal(code, 0, stderr);
    await until(async () => !(await direct('ps')).stdout.includes('other'));
    assert.match((await program('stop', 'nothing')).stderr, /couldn't find model/);
  });

  test('pull tells how it gets on', async () => {
    const { code, stderr } = await program('pull', 'registry.invalid/no/model');
    assert.notEqual(code, 0);
    assert.match(stderr, /registry\.invalid/);
  });

  test('what is one machine’s own is refused with what to do instead', async () => {
    await writeFile(join(home, 'Modelfile'), 'FROM tiny\nPARAMETER temperature 0\n');
    const refused: readonly (readonly [readonly string[], RegExp])[] = [
      [['cp', 'tiny', 'copy'], /the pool copies no models: do it on the machine/],
      [['rm', 'third'], /the pool deletes no models: do it on the machine/],
      [['create', 'mine'], /the pool creates no models: do it on the machine/],
      [['push', 'registry.invalid/no/tiny'], /the pool pushes no models: do it on the machine/],
      [['push', 'tiny'], /the pool has no account at ollama\.com/],
      [['signin'], /the pool has no account at ollama\.com/],
      [['signout'], /the pool has no account at ollama\.com/],
    ];
    for (const [args, reason] of refused) {
      const { code, stderr } = await program(...args);
      assert.notEqual(code, 0, args.join(' '));
      assert.match(stderr, reason, args.join(' '));
    }
    assert.match((await direct('list')).stdout, /^third:latest /m);
  });

  test('create from a file is refused before the file is sent', async () => {
    await writeFile(join(home, 'model.gguf'), Buffer.alloc(1024 * 1024, 'GGUF'));
    await writeFile(join(home, 'Modelfile'), 'FROM ./model.gguf\n');
    const { code, stderr } = await program('create', 'mine', '-f', 'Modelfile');
    assert.notEqual(code, 0);
    assert.match(stderr, /the pool creates no models/);
  });

  test('its version is that of the node’s engine', async () => {
    const [ours, theirs] = [await program('--version'), await direct('--version')];
    assert.equal(ours.stdout, theirs.stdout);
  });

  test('a text longer than the context is embedded as far as it goes, as there', async () => {
    const ask = async (host: string, path: string, body: object): Promise<Response> =>
      await fetch(host + path, {
        method: 'POST',
        body: JSON.stringify(body),
        headers: JSON_HEADERS,
      });
    const input = ['short', 'long '.repeat(400)];
    for (const [path, model] of [
      ['/api/embed', 'embeds'],
      ['/v1/embeddings', 'embeds'],
      ['/api/embed', 'tiny'],
    ] as const) {
      const [ours, theirs] = [
        await ask(master.http.url, path, { model, input }),
        await ask(server.host, path, { model, input }),
      ];
      assert.equal(theirs.status, 200, path);
      assert.equal(ours.status, 200, `${path} ${model}: ${await ours.clone().text()}`);
      assert.equal(countOf(await ours.json()), 2);
    }
    const strict = await ask(master.http.url, '/api/embed', {
      model: 'embeds',
      input,
      truncate: false,
    });
    assert.equal(strict.status, 400);
  });
});

const JSON_HEADERS = { 'content-type': 'application/json' };

function countOf(answer: unknown): number {
  const { embeddings, data } = answer as { embeddings?: unknown[]; data?: unknown[] };
  return (embeddings ?? data ?? []).length;
}

/** Without the movements of a spinner. */
const plain = (text: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what is taken out
  text.replace(/\u001b\[[0-9;?]*[A-Za-z]/g, '');

/** Parameters come in the order of a Go map. */
const linesOf = (text: string): string[] => text.split('\n').sort();

async function until(holds: () => Promise<boolean>, patienceMs = 60_000): Promise<void> {
  const endMs = systemClock.monotonic() + patienceMs;
  while (!(await holds())) {
    assert.ok(systemClock.monotonic() < endMs, 'it did not happen in time');
    await systemClock.sleep(100);
  }
}
