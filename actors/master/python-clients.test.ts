/**
 * Goal: LiteLLM and aider, in every way that they can be pointed at a server of models, work with the
 * pool. Method: the real programs ask the real door; behind it a real bus, a real worker, and a real
 * Ollama with a small real model.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { systemClock } from '../../runtime/clock.ts';
import {
  type Ended,
  findPythonClients,
  runPython,
  SMOL,
  startSmol,
} from '../../test/clients/python-clients.ts';
import { type NatsFixture, startNats } from '../../test/nats-fixture.ts';
import type { RealOllama } from '../../test/real-ollama/real-ollama.ts';
import { sourcePath } from '../../test/source-tree.ts';
import { TestMaster } from './test-master.ts';
import { TestNode } from './test-node.ts';

const skip = (await findPythonClients()) ?? false;

/** Says how a chat ended, whole and streamed, and embeds a text, as JSON. */
const LITELLM = `
import json, sys
import litellm
model, base, key = sys.argv[1:4]
given = dict(model=model, api_base=base, max_tokens=8, temperature=0)
if key: given["api_key"] = key
messages = [{"role": "user", "content": "Say hello."}]
whole = litellm.completion(messages=messages, **given)
streamed = "".join(
    part.choices[0].delta.content or ""
    for part in litellm.completion(messages=messages, stream=True, **given))
print(json.dumps({
    "whole": whole.choices[0].message.content,
    "tokens": whole.usage.completion_tokens,
    "streamed": streamed,
}))
`;

const EMBEDDING = `
import json, sys
import litellm
model, base, key = sys.argv[1:4]
given = dict(model=model, api_base=base, input=["one", "two"])
if key: given["api_key"] = key
print(json.dumps({"lists": len(litellm.embedding(**given).data)}))
`;

describe('clients in Python', { skip, timeout: 3_000_000 }, () => {
  let nats: NatsFixture;
  let master: TestMaster;
  let node: TestNode;
  let server: RealOllama;
  let home: string;

  before(async () => {
    nats = await startNats();
    home = await mkdtemp(join(tmpdir(), 'codegod-python-'));
    server = await startSmol();
    master = await TestMaster.start({ url: nats.url, aliases: { 'qwen2.5-coder:7b': SMOL } });
    node = await TestNode.start({ url: nats.url, id: 'node-a', host: server.host });
    await until(async () => JSON.stringify(await master.get('/api/tags')).includes(SMOL));
  });
  after(async () => {
    await node?.stop();
    await master?.remove();
    await nats?.stop();
    await server?.stop();
    await rm(home, { recursive: true, force: true });
  });

  const litellm = async (script: string, model: string): Promise<Record<string, unknown>> => {
    const { url } = master.http;
    const args = model.startsWith('openai/') ? [`${url}/v1`, 'any'] : [url, ''];
    const { code, stdout, stderr } = await runPython('python', ['-c', script, model, ...args], {
      home,
    });
    assert.equal(code, 0, `${model}: ${stderr.slice(-2_000)}`);
    return JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Record<string, unknown>;
  };

  for (const provider of ['ollama', 'ollama_chat', 'openai']) {
    test(`LiteLLM as ${provider}: a chat, whole and streamed`, async () => {
      const { whole, tokens, streamed } = await litellm(LITELLM, `${provider}/${SMOL}`);
      assert.notEqual(String(whole).trim(), '');
      assert.equal(streamed, whole);
      assert.ok(Number(tokens) > 0 && Number(tokens) <= 8, String(tokens));
    });
  }

  for (const provider of ['ollama', 'openai']) {
    test(`LiteLLM as ${provider}: embeddings of a model that writes`, async () => {
      assert.deepEqual(await litellm(EMBEDDING, `${provider}/${SMOL}`), { lists: 2 });
    });
  }

  /** In a repository of its own, with answers of a few words. */
  const aider = async (
    model: string,
    args: readonly string[],
    env: Readonly<Record<string, string>> = {},
  ): Promise<Ended> => {
    const repository = await mkdtemp(join(home, 'repository-'));
    execFileSync('git', ['init', '-q'], { cwd: repository });
    await writeFile(join(repository, 'hello.py'), 'print("hello")\n');
    const settings = `- name: ${model}\n  edit_format: ask\n  extra_params:\n    max_tokens: 48\n    stop: ["\\n"]\n`;
    await writeFile(join(repository, '.aider.model.settings.yml'), settings);
    const quiet = [
      ...['--yes-always', '--no-check-update', '--no-show-model-warnings', '--analytics-disable'],
      ...['--no-gitignore', '--no-auto-commits', '--map-tokens', '0', '--no-pretty'],
    ];
    const said = ['--model', model, '--message', 'Say hello.', '--read', 'hello.py'];
    return await runPython('aider', [...args, ...said, ...quiet], { home: repository, env });
  };

  const works = ({ code, stdout, stderr }: Ended): void => {
    assert.equal(code, 0, stdout + stderr);
    // A model this small may not find its end; then that is what is said.
    assert.match(
      stdout,
      /Tokens: [\d.]+k? sent, [1-9]\d* received|Output tokens: ~[1-9]/,
      stdout + stderr,
    );
    assert.doesNotMatch(stdout + stderr, /litellm\.\w*Error|Traceback/);
  };

  test('aider as Ollama’s older provider', async () => {
    works(await aider(`ollama/${SMOL}`, [], { OLLAMA_API_BASE: master.http.url }));
  });

  test('aider in each mode, by the lines that the documentation prints', async () => {
    const page = await readFile(sourcePath('docs/pool.md'), 'utf8');
    const lines = [...page.matchAll(/`((?:[A-Z_]+=\S+ )?aider [^`]+)`/g)].map(([, line]) => line);
    assert.equal(lines.length, 2);
    for (const line of lines) {
      const words = (line ?? '').replaceAll('http://127.0.0.1:8001', master.http.url).split(' ');
      const [name, value] = words[0] === 'aider' ? [] : (words.shift() ?? '').split('=', 2);
      const [, ...args] = words;
      const at = args.indexOf('--model');
      const [, model] = args.splice(at, 2);
      const env = name === undefined ? {} : { [name]: value ?? '' };
      works(await aider(model ?? '', args, env));
    }
  });
});

async function until(holds: () => Promise<boolean>, patienceMs = 60_000): Promise<void> {
  const endMs = systemClock.monotonic() + patienceMs;
  while (!(await holds())) {
    assert.ok(systemClock.monotonic() < endMs, 'it did not happen in time');
    await systemClock.sleep(100);
  }
}
