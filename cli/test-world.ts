/** A home of its own, the command line within it, and a fake master; only tests import this. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { BuildSummary } from '../protocol/build.ts';
import { ownIdentity } from '../runtime/process-identity.ts';
import { runCli } from './program.ts';
import { type SystemRecord, writeSystem } from './supervisor/system-record.ts';

export interface CliResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

interface Addresses {
  readonly http?: string;
  readonly bus?: string;
  readonly monitoring?: string;
}

export interface CliHome {
  readonly folder: string;
  readonly state: string;
  readonly env: Readonly<Record<string, string>>;
  /** Runs before the folder is removed. */
  atEnd(end: () => Promise<unknown>): void;
  /** Runs one command line in this process. */
  run(...argv: string[]): Promise<CliResult>;
  /** Notes a running system whose supervisor is this process. */
  pretendRunning(addresses: Addresses): void;
}

export function openHome(
  t: TestContext,
  variables: Readonly<Record<string, string>> = {},
): CliHome {
  const folder = mkdtempSync(join(tmpdir(), 'codegod-cli-'));
  const endings: (() => Promise<unknown>)[] = [];
  t.after(async () => {
    for (const end of endings) await end();
    rmSync(folder, { recursive: true, force: true });
  });
  const state = join(folder, 'state');
  mkdirSync(state, { recursive: true });
  const env = { CODEGOD_HOME: folder, HOME: folder, ...variables };
  return {
    folder,
    state,
    env,
    atEnd: end => endings.push(end),
    async run(...argv) {
      let stdout = '';
      let stderr = '';
      const code = await runCli(argv, {
        stdout: { write: text => (stdout += text) },
        stderr: { write: text => (stderr += text) },
        env,
      });
      return { code, stdout, stderr };
    },
    pretendRunning: addresses => writeSystem(state, runningRecord(addresses)),
  };
}

function runningRecord(addresses: Addresses): SystemRecord {
  const identity = ownIdentity();
  return {
    supervisor_pid: identity.pid,
    supervisor_started: identity.started,
    mode: 'detached',
    state: 'ready',
    started_at: 1,
    bus: {
      name: 'bus',
      pid: null,
      pid_started: null,
      state: 'ready',
      restarts: 0,
      reason: null,
      url: addresses.bus ?? 'nats://127.0.0.1:9',
      monitoring_url: addresses.monitoring ?? null,
    },
    http: { url: addresses.http ?? null },
    actors: [
      {
        name: 'master',
        pid: identity.pid,
        pid_started: identity.started,
        state: 'ready',
        restarts: 2,
        reason: 'killed by SIGKILL',
      },
    ],
  };
}

export interface FakeMaster {
  readonly url: string;
  readonly port: number;
  /** The authorization of each request. */
  readonly presented: readonly (string | undefined)[];
}

/** Answers GET with JSON by path; anything else is 404 with an error body. */
export async function startFakeMaster(
  t: TestContext,
  answers: Readonly<Record<string, unknown>>,
  port = 0,
): Promise<FakeMaster> {
  const presented: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    presented.push(request.headers.authorization);
    const body = answers[request.url ?? ''];
    response.writeHead(body === undefined ? 404 : 200, { 'content-type': 'application/json' });
    const error = { code: 'not_found', message: `no ${request.url}`, hint: 'look at the list' };
    response.end(JSON.stringify(body ?? { error }));
  });
  await new Promise<void>(resolve => server.listen(port, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const bound = portOf(server);
  return { url: `http://127.0.0.1:${bound}`, port: bound, presented };
}

function portOf(server: Server): number {
  const address = server.address();
  if (typeof address === 'object' && address !== null) return address.port;
  throw new Error('a listening server has a port');
}

export function summary(id: string, change: Partial<BuildSummary> = {}): unknown {
  return {
    id,
    state: 'succeeded',
    prompt: 'Create a REST API\nfor a todo list',
    name: 'todo-list',
    path: '/projects/todo-list',
    gateway: 'n1',
    stack: 'node',
    head: null,
    created_at: 1,
    updated_at: 2,
    ended_at: 2,
    tasks: [],
    checks: [],
    usage: {
      turns: 1,
      prompt_tokens: 10,
      output_tokens: 20,
      generate_ms: 1,
      load_ms: 0,
      tool_calls: 2,
      remote_turns: 0,
    },
    models: ['scaffold'],
    archive: null,
    files: [],
    unmet: [],
    error: null,
    waiting: null,
    ...change,
  };
}
