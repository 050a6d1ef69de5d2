/**
 * Clients of the pool that are written in Python, and a small real model for them to talk to: in an
 * environment of the tests' own, made once by `install.sh`. With CI=true it is made where it is
 * missing (minutes); elsewhere the tests that need it are skipped, aloud.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import {
  findRealOllama,
  type RealOllama,
  realOllamaProgram,
  startRealOllama,
} from '../real-ollama/real-ollama.ts';
import { sourcePath } from '../source-tree.ts';

const INSTALL_MS = 1_200_000;
const RUN_MS = 600_000;
/** Without a tag. */
export const SMOL = 'smollm2';

const MODELFILE = `FROM ../smollm2.gguf
PARAMETER num_thread 2
PARAMETER stop <|im_end|>
TEMPLATE """{{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""
`;

export interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function directory(): string {
  const caches = process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache');
  return join(caches, 'codegod-test/clients');
}

/** Null where clients, weights and a server are there, otherwise why not. */
export async function findPythonClients(): Promise<string | null> {
  const script = sourcePath('test/clients/install.sh');
  if (!existsSync(join(directory(), 'ready'))) {
    if (process.env['CI'] !== 'true') {
      return `no ${directory()}: run ${script} once (minutes), or set CI=true`;
    }
    try {
      const options = { timeout: INSTALL_MS, maxBuffer: 16 << 20 };
      await promisify(execFile)('sh', [script, directory()], options);
    } catch (error) {
      const { stderr } = error as { readonly stderr?: string };
      return `installing aider failed: ${(stderr ?? String(error)).trim().slice(-400)}`;
    }
  }
  return await findRealOllama();
}

/** A real server that has the real model. */
export async function startSmol(): Promise<RealOllama> {
  const models = join(directory(), 'models');
  await mkdir(models, { recursive: true });
  const started = await startRealOllama({ env: { OLLAMA_MODELS: models } });
  if (started.kind !== 'running') throw new Error(started.reason);
  const { ollama } = started;
  await writeFile(join(models, 'Modelfile'), MODELFILE);
  const env = { PATH: process.env['PATH'] ?? '', HOME: directory(), OLLAMA_HOST: ollama.host };
  await promisify(execFile)(realOllamaProgram(), ['create', SMOL], { env, cwd: models });
  return ollama;
}

/**
 * Runs one of the environment's programs in a directory that is its home too. It reaches nothing but
 * this machine: every other address goes to a proxy that does not exist.
 */
export function runPython(
  program: 'python' | 'aider',
  args: readonly string[],
  { home, env = {} }: { readonly home: string; readonly env?: Readonly<Record<string, string>> },
): Promise<Ended> {
  const nowhere = 'http://127.0.0.1:9';
  const environment = {
    ...{ PATH: process.env['PATH'] ?? '', HOME: home, TERM: 'dumb', NO_COLOR: '1' },
    ...{ HTTP_PROXY: nowhere, HTTPS_PROXY: nowhere, NO_PROXY: '127.0.0.1,localhost' },
    LITELLM_LOCAL_MODEL_COST_MAP: 'True',
    ...env,
  };
  return new Promise(resolve => {
    const child = execFile(
      join(directory(), 'venv/bin', program),
      args,
      { env: environment, cwd: home, timeout: RUN_MS, maxBuffer: 16 << 20 },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
        resolve({ code, stdout, stderr });
      },
    );
    child.stdin?.end();
  });
}
