/**
 * The formula beside a real Ollama (0.17.4, CPU): small models of several architectures with empty
 * weights are loaded with different contexts, slots and types of the cache, and what the server's log
 * says of weights, cache and compute buffer is printed next to what the formula says.
 *
 *     node --import tsx bench/memory/ollama.ts > table.md
 *
 * The program is the one of `test/real-ollama/build.sh`. Nothing is measured: buffers are as large on
 * a busy machine as on an idle one.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { KvType } from '../../protocol/model-profile.ts';
import { memoryNeed } from '../../scheduling/memory.ts';
import { profileOf } from '../../scheduling/profile.ts';
import { testGguf } from '../../scheduling/test-gguf.ts';
import { fileBytes, type Shape, testModel } from '../../scheduling/test-models.ts';
import { freePort } from '../../test/nats-fixture.ts';

const OLLAMA = join(
  process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'),
  'codegod-test/ollama/ollama',
);
const MIB = 2 ** 20;
const READY_MS = 30_000;
const LOAD_MS = 120_000;

const small = {
  layers: 12,
  embd: 1_024,
  heads: 16,
  kv: 4,
  head: 64,
  ff: 2_048,
  vocabulary: 8_192,
  context: 131_072,
};
const SMALL: Readonly<Record<string, Shape>> = {
  llama: { architecture: 'llama', ...small },
  qwen2: { architecture: 'qwen2', ...small, bias: true, tied: true },
  qwen3: { architecture: 'qwen3', ...small, qkNorm: true },
  qwen3moe: {
    architecture: 'qwen3moe',
    ...small,
    qkNorm: true,
    experts: { count: 16, used: 4, ff: 512 },
  },
  gemma2: { architecture: 'gemma2', ...small, tied: true, postNorms: true, window: 1_024 },
  gemma3: {
    architecture: 'gemma3',
    ...small,
    tied: true,
    qkNorm: true,
    postNorms: true,
    window: 512,
    more: { 'gemma3.rope.local.freq_base': 10_000, 'gemma3.rope.global.freq_base': 1_000_000 },
  },
  deepseek2: {
    architecture: 'deepseek2',
    ...small,
    kv: 1,
    head: 320,
    valueHead: 256,
    mla: { rank: 256, rope: 64, key: 192, value: 128, q: 256 },
    experts: { count: 16, used: 4, ff: 512, shared: 512, dense: 1 },
    more: {
      'deepseek2.expert_weights_scale': 1.5,
      'deepseek2.rope.scaling.yarn_log_multiplier': 0.07,
      'deepseek2.rope.scaling.factor': 1,
      'deepseek2.rope.scaling.original_context_length': 4_096,
    },
  },
  gptoss: {
    architecture: 'gptoss',
    ...small,
    bias: true,
    window: 128,
    experts: { count: 16, used: 4, ff: 512, bias: true },
  },
};

interface Run {
  readonly context_tokens: number;
  readonly slots: number;
  readonly kv_type: KvType;
}
const RUNS: readonly Run[] = [
  { context_tokens: 4_096, slots: 1, kv_type: 'f16' },
  { context_tokens: 16_384, slots: 1, kv_type: 'f16' },
  { context_tokens: 8_192, slots: 3, kv_type: 'f16' },
  { context_tokens: 16_384, slots: 1, kv_type: 'q8_0' },
];

const home = mkdtempSync(join(tmpdir(), 'codegod-memory-'));
process.once('exit', () => rmSync(home, { recursive: true, force: true }));

interface Server {
  readonly host: string;
  readonly env: Readonly<Record<string, string>>;
  log(): string;
  stop(): Promise<void>;
}

async function serve(slots: number, kvType: string): Promise<Server> {
  const port = await freePort();
  const env = {
    PATH: process.env['PATH'] ?? '',
    HOME: home,
    OLLAMA_HOST: `127.0.0.1:${port}`,
    OLLAMA_MODELS: join(home, 'models'),
    OLLAMA_NUM_PARALLEL: String(slots),
    OLLAMA_KV_CACHE_TYPE: kvType,
    OLLAMA_FLASH_ATTENTION: '1',
    OLLAMA_DEBUG: '1',
  };
  const child = spawn(OLLAMA, ['serve'], {
    env,
    stdio: ['ignore', 'ignore', 'pipe'],
    detached: true,
  });
  let text = '';
  child.stderr?.setEncoding('utf8').on('data', (part: string) => (text += part));
  const host = `http://127.0.0.1:${port}`;
  for (let waited = 0; waited < READY_MS; waited += 100) {
    if (await answers(host)) return { host, env, log: () => text, stop: () => end(child) };
    await sleep(100);
  }
  await end(child);
  throw new Error(`ollama serve did not become ready: ${text.slice(-500)}`);
}

async function answers(host: string): Promise<boolean> {
  try {
    return (await fetch(`${host}/api/version`, { signal: AbortSignal.timeout(1_000) })).ok;
  } catch {
    return false; // Not yet.
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.pid === undefined) return;
  const exited = new Promise<void>(resolve => child.once('exit', () => resolve()));
  // A group of its own: its runners go with it.
  if (child.exitCode === null) process.kill(-child.pid, 'SIGKILL');
  else return;
  await exited;
}

function writeModel(name: string, shape: Shape): void {
  const { header, size_bytes } = testGguf(testModel(shape, 'Q8_0'), { vocabulary: true });
  const file = openSync(join(home, `${name}.gguf`), 'w');
  writeSync(file, header);
  ftruncateSync(file, size_bytes);
  closeSync(file);
  writeFileSync(join(home, `${name}.model`), `FROM ./${name}.gguf\nTEMPLATE "{{ .Prompt }}"\n`);
}

interface Printed {
  readonly weights: number;
  readonly cache: number;
  readonly compute: number;
}

const UNITS: Readonly<Record<string, number>> = { B: 1 / MIB, KiB: 1 / 1_024, MiB: 1, GiB: 1_024 };

/** MiB of every figure that the pattern finds: number, then unit. */
function figures(log: string, pattern: RegExp): readonly number[] {
  return [...log.matchAll(pattern)].map(
    ([, size, unit]) => Number(size) * (UNITS[unit ?? ''] ?? 1),
  );
}

const sum = (all: readonly number[]): number => all.reduce((total, one) => total + one, 0);

/** Both engines of this Ollama have their own words; of several layouts tried the last counts. */
function printedIn(log: string): Printed | null {
  const caches = figures(log, /(?:llama_kv_cache|llama_memory_recurrent): size = +([\d.]+) (MiB)/g);
  if (caches.length > 0) {
    return {
      weights: sum(figures(log, /model buffer size = +([\d.]+) (MiB)/g)),
      cache: sum(caches),
      compute: sum(figures(log, /compute buffer size = +([\d.]+) (MiB)/g)),
    };
  }
  const told = (what: string): number | undefined =>
    figures(log, new RegExp(`msg="${what}" device=\\S+ size="([\\d.]+) (\\w+)"`, 'g')).at(-1);
  const [weights, cache] = [told('model weights'), told('kv cache')];
  if (weights === undefined || cache === undefined) return null;
  return { weights, cache, compute: told('compute graph') ?? 0 };
}

const rows: string[] = [];

async function compare(server: Server, name: string, shape: Shape, run: Run): Promise<void> {
  const before = server.log().length;
  const body = {
    model: name,
    keep_alive: 60,
    stream: false,
    options: { num_ctx: run.context_tokens },
  };
  const response = await fetch(`${server.host}/api/generate`, {
    method: 'POST',
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(LOAD_MS),
  });
  const said = await response.text();
  await sleep(300); // The last lines of the log come after the answer.
  const printed = printedIn(server.log().slice(before));
  const label = [name, String(run.context_tokens), String(run.slots), run.kv_type];
  if (!response.ok || printed === null) {
    const reason = /"error":"([^"]*)"/.exec(said)?.[1] ?? `HTTP ${response.status}`;
    rows.push(`| ${[...label, `not loaded: ${reason.slice(0, 80)}`].join(' | ')} |`);
    if (process.env['VERBOSE'] !== undefined)
      console.error(server.log().slice(before).slice(-3_000));
    return;
  }
  const model = testModel(shape, 'Q8_0');
  const file_bytes = fileBytes(model);
  const profile = profileOf({ ...model, file_bytes, projector_apart: false, source: 'gguf' });
  const need = memoryNeed(profile, {
    ...run,
    slots: profile.single_slot ? 1 : run.slots,
    flash_attention: true,
    backend: 'cpu',
    engine: { ubatch_tokens: 512, all_outputs: true },
  });
  const pair = (ours: number, theirs: number): string =>
    `${(ours / MIB).toFixed(1)} / ${theirs.toFixed(1)}`;
  const cells = [
    pair(need.weights_bytes, printed.weights),
    pair(need.kv_bytes, printed.cache),
    pair(need.compute_bytes, printed.compute),
  ];
  rows.push(`| ${[...label, ...cells].join(' | ')} |`);
}

for (const [name, shape] of Object.entries(SMALL)) writeModel(name, shape);
const wanted = process.argv.slice(2);
const settings = new Map(RUNS.map(run => [`${run.slots} ${run.kv_type}`, run]));
for (const { slots, kv_type } of settings.values()) {
  const server = await serve(slots, kv_type);
  try {
    for (const [name, shape] of Object.entries(SMALL)) {
      if (wanted.length > 0 && !wanted.includes(name)) continue;
      const options = { cwd: home, env: server.env, timeout: LOAD_MS };
      await promisify(execFile)(OLLAMA, ['create', name, '-f', `${name}.model`], options);
      for (const run of RUNS) {
        if (run.slots === slots && run.kv_type === kv_type) await compare(server, name, shape, run);
      }
    }
  } finally {
    await server.stop();
  }
}
console.log('| model | context | slots | cache type | weights MiB: ours / log | cache | compute |');
console.log('|---|---|---|---|---|---|---|');
for (const row of rows.sort()) console.log(row);
