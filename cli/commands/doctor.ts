/**
 * `doctor`: looks at everything the product stands on; each check says ok, warn or fail and, where
 * it is not ok, the one thing to do. Nothing is installed or changed.
 */
import { existsSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { connect } from 'node:net';
import { delimiter, join } from 'node:path';
import semver from 'semver';
import { type Config, wholeEnvironment } from '../../runtime/config.ts';
import { findPython, lastLine } from '../../runtime/find-python.ts';
import { findNatsServer } from '../../runtime/nats-server/find.ts';
import { readSeed } from '../../runtime/nats-server/users.ts';
import { verifyBus } from '../../runtime/nats-server/verify.ts';
import { runProgram } from '../../runtime/run-program.ts';
import { sandboxTrouble } from '../../runtime/sandbox-trouble.ts';
import { findEnvironment } from '../../runtime/tools-environment.ts';
import type { CommandContext } from '../context.ts';
import { CliError, EXIT, toFailure } from '../exit-code.ts';
import { CLOCK_SKEW_MAX_MS, lookAtHub } from '../hub.ts';
import { environmentsFolder } from '../supervisor/system.ts';
import { runningSystem, type SystemRecord } from '../supervisor/system-record.ts';
import type { Terminal } from '../terminal.ts';
import { checkGpu } from './doctor-gpu.ts';
import { fail, ok, type Verdict, warn } from './doctor-verdict.ts';

export interface Finding extends Verdict {
  readonly check: string;
}

interface Patient {
  readonly config: Config;
  readonly running: SystemRecord | null;
}

const PROGRAM_TIMEOUT_MS = 10_000;
const HTTP_TIMEOUT_MS = 2_000;
const NODE_MIN = '20.19.0';
const GIB = 2 ** 30;
const DISK_FAIL_BYTES = GIB;
const DISK_WARN_BYTES = 5 * GIB;

const CHECKS: Readonly<Record<string, (patient: Patient) => Promise<Verdict>>> = {
  node: checkNode,
  git: checkGit,
  python: checkPython,
  sandbox: checkSandbox,
  'tools environment': patient => checkEnvironment(patient, 'tools'),
  'checks environment': patient => checkEnvironment(patient, 'checks'),
  'nats-server': checkServer,
  bus: checkBus,
  ports: checkPorts,
  disk: checkDisk,
  gpu: ({ config }) =>
    checkGpu({
      declared: config.node.gpus ?? [],
      platform: process.platform,
      root: '',
      env: wholeEnvironment(),
    }),
  ollama: checkOllama,
  actors: checkActors,
};

export async function doctor(context: CommandContext): Promise<number> {
  const config = await context.config();
  const patient = { config, running: runningSystem(config.paths.state) };
  const findings = await Promise.all(
    Object.entries(CHECKS).map(async ([check, look]): Promise<Finding> => {
      try {
        return { check, ...(await look(patient)) };
      } catch (error) {
        const { message, hint } = toFailure(error);
        return { check, ...fail(message, hint ?? 'report this') };
      }
    }),
  );
  const isHealthy = findings.every(finding => finding.status !== 'fail');
  context.terminal.result({ healthy: isHealthy, checks: findings }, () =>
    findings.map(finding => render(context.terminal, finding)).join('\n'),
  );
  return isHealthy ? EXIT.ok : EXIT.unreachable;
}

function render(terminal: Terminal, { check, status, detail, fix }: Finding): string {
  const colour = { ok: 'green', warn: 'yellow', fail: 'red' } as const;
  const line = `${terminal.style(colour[status], status.padEnd(4))}  ${check.padEnd(18)}  ${detail}`;
  return fix === null ? line : `${line}\n      ${' '.repeat(18)}  → ${fix}`;
}

async function checkNode(): Promise<Verdict> {
  const { version } = process;
  return semver.gte(version, NODE_MIN)
    ? ok(version)
    : fail(
        `${version} is older than ${NODE_MIN}`,
        'install Node 20.19 or newer: https://nodejs.org',
      );
}

async function checkGit(): Promise<Verdict> {
  const result = await runProgram('git', ['--version'], { timeoutMs: PROGRAM_TIMEOUT_MS });
  return result.failure === null
    ? ok(result.stdout.trim())
    : fail(`git: ${result.failure}`, 'sudo apt-get install git');
}

async function checkPython(): Promise<Verdict> {
  const tried: string[] = [];
  const found = await findPython(wholeEnvironment(), tried);
  return found === null
    ? warn(
        `no usable Python for tool servers and FastAPI projects: ${tried.join('; ')}`,
        'sudo apt-get install python3 python3-venv',
      )
    : ok(`${found.version} at ${found.path}`);
}

async function checkSandbox({ config, running }: Patient): Promise<Verdict> {
  if (config.sandbox === 'none') {
    return warn('switched off by configuration', 'leave out the setting `sandbox`');
  }
  const bwrap = ['--ro-bind', '/', '/', '--unshare-all', 'true'];
  const rungs = [
    ['bwrap', bwrap],
    ['unshare', ['--user', '--map-root-user', '--mount', '--pid', '--fork', 'true']],
  ] as const;
  const bounds = running?.actors.find(({ name }) => name === 'mcp-gateway')?.sandbox_bounds;
  let hasBubblewrap = true;
  let said = '';
  for (const [program, args] of rungs) {
    const result = await runProgram(program, args, { timeoutMs: PROGRAM_TIMEOUT_MS });
    if (result.failure === null)
      return ok(bounds === undefined ? program : `${program}; ${bounds}`);
    if (result.end !== 'not_found') said = lastLine(result.failure);
    else if (program === 'bwrap') hasBubblewrap = false;
  }
  const { reason, fix } = sandboxTrouble({ hasBubblewrap, said });
  return warn(`what a model wrote cannot be checked: ${reason}`, fix);
}

async function checkEnvironment({ config }: Patient, name: 'tools' | 'checks'): Promise<Verdict> {
  const found = findEnvironment({ name, dir: environmentsFolder(config) });
  return found === null ? ok('not there yet; it is installed when first needed') : ok(found.bin);
}

async function checkServer({ config, running }: Patient): Promise<Verdict> {
  if (config.bus.url !== undefined) return ok('not needed: the bus is configured');
  const env = wholeEnvironment();
  const tools = findEnvironment({ name: 'tools', dir: environmentsFolder(config) });
  const program = process.platform === 'win32' ? 'nats-server.exe' : 'nats-server';
  const folders = (env['PATH'] ?? '')
    .split(delimiter)
    .filter(folder => folder !== '' && existsSync(join(folder, program)));
  if (config.nats_server === undefined && tools === null && folders.length === 0) {
    return running === null
      ? ok('not there yet; it comes with the tools environment')
      : ok('the one that runs');
  }
  const found = await findNatsServer({
    configured: config.nats_server,
    cacheDir: config.paths.cache,
    toolsEnvironment: async () => {
      if (tools !== null) return tools;
      throw new CliError('dependency_missing', 'not installed yet');
    },
    // Without the rest of the search path nothing can be built: this only looks.
    env: { ...env, PATH: folders.join(delimiter) },
  });
  return ok(`${found.version} (${found.source}) at ${found.binary}`);
}

async function checkBus({ config, running }: Patient): Promise<Verdict> {
  const url = running?.bus.url ?? config.bus.url;
  if (url === undefined || url === null) return ok('nothing runs');
  if (config.bus.joined) return await checkHub(config, url);
  const monitoring = running?.bus.monitoring_url ?? config.bus.monitoring_url ?? null;
  const verdict = await verifyBus(url, monitoring);
  const [problem] = verdict.problems;
  if (problem !== undefined) {
    return fail(problem.message, 'jetstream { sync_interval: always } on nats-server ≥ 2.12');
  }
  return verdict.sync_always === null
    ? warn(
        `${url}: nobody can see whether it syncs every write`,
        'set bus.monitoring_url to its monitoring address',
      )
    : ok(`${url}, nats-server ${verdict.version}, every write is synced`);
}

/** Looks at another machine's bus as the node that we are there. */
async function checkHub(config: Config, url: string): Promise<Verdict> {
  const seed = readSeed(config.bus.nkey_file ?? '');
  if (seed === null) return fail(`there is no ${config.bus.nkey_file}`, 'codegod join, again');
  const { node, attestation, clock_skew_ms } = await lookAtHub({ url, seed });
  if (attestation?.sync_always !== true) {
    return fail(`${url}: nobody there says that it syncs every write`, '`codegod status` there');
  }
  if (Math.abs(clock_skew_ms) > CLOCK_SKEW_MAX_MS) {
    return warn(`${url}: its clock differs from ours by ${clock_skew_ms} ms`, 'set both by NTP');
  }
  return ok(`${url}, where we are ${node}; every write is synced`);
}

async function checkPorts({ config, running }: Patient): Promise<Verdict> {
  if (config.bus.joined) return ok('none: a node only connects to others');
  if (running !== null) return ok(`in use by us: ${running.bus.url}, ${running.http.url}`);
  const explicit: [string, number][] = [];
  if (config.bus.url === undefined && config.bus.port !== undefined) {
    explicit.push(['bus.port', config.bus.port]);
  }
  if (config.http.port !== 0) explicit.push(['http.port', config.http.port]);
  for (const [key, port] of explicit) {
    if (await answers(port)) {
      return fail(`${key}: port ${port} is taken by another program`, `free it or set ${key}`);
    }
  }
  return ok(explicit.map(([key, port]) => `${key} ${port} is free`).join(', '));
}

function answers(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect({ port, host: '127.0.0.1' });
    const finish = (isTaken: boolean): void => {
      socket.destroy();
      resolve(isTaken);
    };
    socket.setTimeout(HTTP_TIMEOUT_MS, () => finish(true));
    socket.once('connect', () => finish(true));
    socket.once('error', () => finish(false));
  });
}

async function checkDisk({ config }: Patient): Promise<Verdict> {
  const folder = firstExisting(config.paths.data);
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  const detail = `${(free / GIB).toFixed(1)} GiB free at ${folder}`;
  if (free < DISK_FAIL_BYTES) return fail(detail, 'free some disk space');
  return free < DISK_WARN_BYTES ? warn(detail, 'free some disk space') : ok(detail);
}

function firstExisting(folder: string): string {
  return existsSync(folder) ? folder : firstExisting(join(folder, '..'));
}

async function checkOllama({ config }: Patient): Promise<Verdict> {
  const { host } = config.ollama;
  try {
    const response = await fetch(`${host}/api/tags`, {
      signal: AbortSignal.timeout(HTTP_TIMEOUT_MS),
    });
    const { models = [] } = (await response.json()) as { models?: readonly unknown[] };
    if (models.length > 0) return ok(`${models.length} models at ${host}`);
    return warn(`no model at ${host}: scaffold is used`, 'ollama pull qwen2.5-coder:7b');
  } catch {
    return warn(
      `no Ollama at ${host}: the scaffold engine is used`,
      'install it from https://ollama.com, then `ollama pull qwen2.5-coder:7b`',
    );
  }
}

async function checkActors({ running }: Patient): Promise<Verdict> {
  if (running === null) return ok('nothing runs');
  const bad = running.actors.filter(actor => actor.state !== 'ready');
  if (bad.length === 0) return ok(`${running.actors.length} ready`);
  const names = bad.map(actor => `${actor.name} ${actor.state} (${actor.reason ?? '-'})`);
  return fail(names.join(', '), `codegod logs --actor ${bad[0]?.name}`);
}
