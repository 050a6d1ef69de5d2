/**
 * Goal: what a local Ollama hides is read from its process, and a load is given up by standing still,
 * not by being slow. Method: a made-up /proc, and simulated time.
 */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { EngineEnvironment } from '../../../protocol/node.ts';
import { SimulatedClock } from '../../../runtime/clock.ts';
import { watchLoad } from './load-watch.ts';
import { environmentOf } from './ollama-environment.ts';
import { canonicalFields } from './ollama-options.ts';
import { findOllamaProcess, loadedBytes } from './ollama-process.ts';
import { Watchdog } from './watchdog.ts';

const MIB = 1024 ** 2;

interface MadeUp {
  readonly pid: number;
  readonly cmdline: readonly string[];
  readonly environ?: readonly string[];
  readonly children?: readonly number[];
  readonly pages?: number;
  readonly read?: number;
}

async function procOf(t: { after(work: () => Promise<void>): void }, processes: MadeUp[]) {
  const proc = await mkdtemp(join(tmpdir(), 'codegod-proc-'));
  t.after(() => rm(proc, { recursive: true, force: true }));
  for (const { pid, cmdline, environ = [], children = [], pages = 1, read = 0 } of processes) {
    const home = join(proc, String(pid));
    await mkdir(join(home, 'task', String(pid)), { recursive: true });
    await writeFile(join(home, 'cmdline'), cmdline.map(word => `${word}\0`).join(''));
    await writeFile(join(home, 'environ'), environ.map(word => `${word}\0`).join(''));
    await writeFile(join(home, 'task', String(pid), 'children'), children.join(' '));
    await writeFile(join(home, 'statm'), `9 ${pages} 0`);
    await writeFile(join(home, 'io'), `rchar: ${read}\nwchar: 0\n`);
  }
  return proc;
}

describe('the process of a local Ollama', () => {
  it('is the one that serves the port, and its settings are read', async t => {
    const proc = await procOf(t, [
      { pid: 11, cmdline: ['/usr/bin/ollama', 'serve'], environ: ['OLLAMA_HOST=0.0.0.0:11500'] },
      { pid: 12, cmdline: ['ollama', 'run', 'tiny'] },
      {
        pid: 13,
        cmdline: ['ollama', 'serve'],
        environ: ['HOME=/', 'OLLAMA_NUM_PARALLEL=4', 'OLLAMA_KV_CACHE_TYPE=q8_0'],
        children: [14, 15],
      },
      { pid: 14, cmdline: ['llama-server'], pages: 1_000, read: 7 },
      { pid: 15, cmdline: ['llama-server'], pages: 1, read: 9_000 },
    ]);
    const found = await findOllamaProcess('http://127.0.0.1:11434', proc);
    assert.equal(found?.pid, 13);
    assert.equal((await findOllamaProcess('http://localhost:11500', proc))?.pid, 11);
    assert.equal(await findOllamaProcess('http://10.0.0.9:11434', proc), null);
    const environment = EngineEnvironment.parse(environmentOf({}, found));
    assert.deepEqual(environment, {
      ...{ num_parallel: 4, kv_type: 'q8_0', flash_attention: null },
      ...{ max_loaded_models: 0, max_queue: 512, source: 'process' },
    });
    assert.equal(await loadedBytes(13, proc), 1_000 * 4_096 + 9_000);
    assert.equal(await loadedBytes(99, proc), null);
  });

  it('may see some cards only, as it was started or as is declared', () => {
    const started = { pid: 1, environment: { CUDA_VISIBLE_DEVICES: '1', HOME: '/' } };
    const seen = environmentOf({}, started).visible_devices;
    assert.deepEqual(seen, { CUDA_VISIBLE_DEVICES: '1' });
    const empty = { pid: 1, environment: { CUDA_VISIBLE_DEVICES: '' } };
    assert.deepEqual(environmentOf({}, empty).visible_devices, { CUDA_VISIBLE_DEVICES: '' });
    const { visible_devices, source } = environmentOf({ visible_devices: '-1' }, started);
    assert.deepEqual(
      [visible_devices, source],
      [{ CUDA_VISIBLE_DEVICES: '-1', GGML_VK_VISIBLE_DEVICES: '-1' }, 'declared'],
    );
  });

  it('whose settings nobody may read has the defaults, unless they are declared', () => {
    assert.equal(environmentOf({}, null).source, 'default');
    const declared = environmentOf({ num_parallel: 2, flash_attention: true }, null);
    assert.deepEqual(
      [declared.num_parallel, declared.flash_attention, declared.kv_type, declared.source],
      [2, true, 'f16', 'declared'],
    );
  });
});

describe('the options of a copy', () => {
  it('are what it was loaded with, whatever a request wishes', () => {
    const wishes = { num_ctx: 2_048, num_batch: 64, num_gpu: 1, temperature: 0.5 };
    assert.deepEqual(canonicalFields({ context_tokens: 8_192, keep_alive: 900 }, wishes), {
      ...{ keep_alive: 900, truncate: false, shift: false },
      options: { temperature: 0.5, num_ctx: 8_192 },
    });
  });
});

describe('a load', () => {
  /** Watches a load whose signs follow a script of one entry per second. */
  async function watched(
    seconds: number,
    read: (second: number) => number | null,
    free: (second: number) => number | null = () => null,
  ) {
    const clock = new SimulatedClock();
    const over = new AbortController();
    const watchdog = new Watchdog(clock, over.signal);
    const fractions: (number | null)[] = [];
    const second = (): number => clock.monotonic() / 1_000;
    const watching = watchLoad(
      {
        ...{ clock, watchdog, model: 'm', size_bytes: 100 * MIB, stallMs: 60_000 },
        ...{ blindMs: 120_000, onFraction: fraction => void fractions.push(fraction) },
        signs: { read: async () => read(second()), free: () => free(second()) },
      },
      AbortSignal.any([watchdog.signal, over.signal]),
    );
    await clock.advance(seconds * 1_000);
    const gaveUp = watchdog.signal.aborted;
    watchdog.stop();
    over.abort();
    await watching;
    assert.equal(clock.timersPending, 0);
    return { gaveUp, fractions };
  }

  it('that gets on, however slowly, is waited for, and tells how far it is', async () => {
    const slow = await watched(1_000, second => second * MIB * 0.05);
    assert.equal(slow.gaveUp, false);
    assert.ok(Math.abs((slow.fractions.at(-1) ?? 0) - 0.5) < 0.01);
  });

  it('that stands still is given up, though other memory comes and goes', async () => {
    const noise = (second: number): number => 1_000 * MIB - (second % 7) * 30 * MIB;
    assert.equal((await watched(200, () => 5 * MIB, noise)).gaveUp, true);
  });

  it('that only shows in the free memory is seen there', async () => {
    const falling = (second: number): number => 9_000 * MIB - second * MIB;
    assert.equal((await watched(500, () => null, falling)).gaveUp, false);
  });

  it('of which nothing can be seen has a bound for the whole', async () => {
    assert.equal((await watched(119, () => null)).gaveUp, false);
    assert.equal((await watched(121, () => null)).gaveUp, true);
  });
});
