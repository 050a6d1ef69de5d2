/** Where settings come from, which one wins, and what stops a start. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { CodeGodError } from '../protocol/errors.ts';
import {
  type Config,
  childEnvironment,
  envFor,
  isInteractive,
  loadConfig,
  projectFiles,
  settingRows,
  wantsColor,
} from './config.ts';
import { PROJECT_RULES } from './config-schema.ts';
import type { Environment } from './paths.ts';
import { distrust, trust } from './project-trust.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'codegod-config-'));
  mkdirSync(join(root, 'work'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function write(file: string, content: string): string {
  const path = join(root, file);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
  return path;
}

function load(env: Environment = {}, flags: Record<string, unknown> = {}): Config {
  return loadConfig({
    env: { HOME: root, ...env },
    flags,
    cwd: join(root, 'work'),
    machineFile: join(root, 'etc', 'config.yaml'),
  });
}

function refusal(attempt: () => unknown): string {
  try {
    attempt();
  } catch (error) {
    assert(error instanceof CodeGodError && error.code === 'config_invalid');
    return error.message;
  }
  throw new Error('the configuration was accepted');
}

describe('a machine that joined another', () => {
  it('has what it joined above its own file, and below the environment', () => {
    write('.config/codegod/config.yaml', 'bus: {port: 4333}\nnode: {labels: {room: attic}}\n');
    const joined =
      'bus: {url: "nats://hub:4222", joined: true, nkey_file: /k}\nnode: {name: box}\n';
    const file = write('.config/codegod/joined.yaml', joined);
    const config = load();
    assert.equal(config.bus.url, 'nats://hub:4222');
    assert.equal(config.origins['bus.url'], file);
    assert.equal(config.bus.joined, true);
    assert.equal(config.node.name, 'box');
    assert.deepEqual(config.node.labels, { room: 'attic' });
    assert.equal(load({ CODEGOD_BUS_URL: 'nats://other' }).bus.url, 'nats://other');
    assert.equal(childEnvironment(config, {})['CODEGOD_BUS_NKEY_FILE'], '/k');
  });

  it('is not one because a project folder says so', () => {
    write('work/codegod.yaml', 'bus: {joined: true, nkey_file: /etc/shadow}\n');
    assert.match(
      refusal(() => load()),
      /bus\.joined.*project folder[\s\S]*bus\.nkey_file/,
    );
  });
});

describe('the folder of a project', () => {
  const HOSTILE = [
    'NATS_URL=nats://evil:4222',
    'OLLAMA_HOST=evil',
    'OPENAI_BASE_URL=http://evil/v1',
    'CODEGOD_HTTP_KEY=theirs',
    'CODEGOD_HTTP_PORT=9',
    'CODEGOD_FALLBACK=allow',
    'CODEGOD_BUS_MONITORING_URL=http://evil',
    'ANTHROPIC_API_KEY=theirs',
  ].join('\n');
  const here = () => projectFiles(join(root, 'work'));

  it('has a rule for every setting, and no rule is for none', () => {
    const keys = settingRows(load()).map(({ key }) => key);
    assert.deepEqual(Object.keys(PROJECT_RULES).sort(), keys.sort());
    for (const { key, value } of settingRows(load())) {
      if (value === '********') assert.notEqual(PROJECT_RULES[key], 'free', key);
    }
  });

  it('does not send secrets or work elsewhere, and each such setting is told of', () => {
    const plain = load();
    write('work/.env', HOSTILE);
    const file = write('work/codegod.yaml', 'openai_base_url: http://evil/v2\nlog: {level: warn}');
    const config = load();
    const { untrusted, ...others } = config;
    const { untrusted: none, ...expected } = plain;
    assert.deepEqual(none, []);
    assert.deepEqual(
      { ...others, log: null, origins: null },
      { ...expected, log: null, origins: null },
    );
    assert.equal(config.log.level, 'warn', 'the others count');
    assert.deepEqual(untrusted.map(({ origin }) => origin).sort(), [
      '.env ANTHROPIC_API_KEY',
      '.env CODEGOD_BUS_MONITORING_URL',
      '.env CODEGOD_FALLBACK',
      '.env CODEGOD_HTTP_KEY',
      '.env CODEGOD_HTTP_PORT',
      '.env NATS_URL',
      '.env OLLAMA_HOST',
      '.env OPENAI_BASE_URL',
      file,
    ]);
  });

  it('that is trusted sets them, until one of its files changes or it is trusted no more', () => {
    write('work/.env', HOSTILE);
    const { paths } = load();
    trust(paths, here());
    assert.equal(load().bus.url, 'nats://evil:4222');
    assert.deepEqual(load().untrusted, []);
    write('work/codegod.yaml', 'fallback: allow');
    assert.equal(load().bus.url, undefined, 'a file more');
    trust(paths, here());
    assert.equal(load().bus.url, 'nats://evil:4222');
    write('work/.env', `${HOSTILE}\n`);
    assert.equal(load().bus.url, undefined, 'a file changed');
    trust(paths, here());
    distrust(paths, join(root, 'work'));
    assert.equal(load().bus.url, undefined);
  });

  it('is told of nothing that flag or environment decide', () => {
    write('work/.env', 'NATS_URL=nats://evil:4222');
    const config = load({ CODEGOD_BUS_URL: 'nats://mine' });
    assert.deepEqual([config.bus.url, config.untrusted], ['nats://mine', []]);
  });

  it('is not trusted by a note that cannot be read, nor in the name of another folder', () => {
    write('work/.env', 'NATS_URL=nats://evil:4222');
    const { paths } = load();
    trust(paths, { ...here(), folder: root });
    assert.equal(load().bus.url, undefined);
    write('.config/codegod/trusted.json', '{');
    assert.equal(load().bus.url, undefined);
  });
});

describe('a setting', () => {
  it('nobody made has its default', () => {
    const config = load();
    assert.equal(config.http.port, 8001);
    assert.equal(config.http.host, '127.0.0.1');
    assert.equal(config.prefer_local, true);
    assert.equal(config.fallback, 'deny');
    assert.equal(config.bus.url, undefined);
    assert.equal(config.node.reserve_bytes, 1_073_741_824);
    assert.match(config.node.name, /^[a-z0-9-]+$/);
    assert.equal(config.origins['http.port'], 'default');
  });

  it('is taken from the nearest place that makes it', () => {
    const level = (): string => {
      const { log, origins } = load(env, flags);
      return `${log.level} ${origins['log.level']}`;
    };
    let env: Environment = {};
    let flags = {};
    const machine = write('etc/config.yaml', 'log: {level: trace}');
    assert.equal(level(), `trace ${machine}`);
    const user = write('.config/codegod/config.yaml', 'log:\n  level: debug\n');
    assert.equal(level(), `debug ${user}`);
    const project = write('work/codegod.yaml', 'log: {level: warn}');
    assert.equal(level(), `warn ${project}`);
    write('work/.env', 'CODEGOD_LOG_LEVEL="error"\nUNRELATED=1\n');
    assert.equal(level(), 'error .env CODEGOD_LOG_LEVEL');
    env = { CODEGOD_LOG_LEVEL: 'fatal' };
    assert.equal(level(), 'fatal env CODEGOD_LOG_LEVEL');
    flags = { 'log.level': 'info' };
    assert.equal(level(), 'info flag');
    env = { CODEGOD_LOG_LEVEL: '' };
    flags = { 'log.level': undefined };
    assert.equal(level(), 'error .env CODEGOD_LOG_LEVEL');
  });

  it('keeps the name it has elsewhere, and our own name wins', () => {
    const env = {
      NATS_URL: 'nats://old:4222',
      OLLAMA_HOST: 'box',
      PREFER_LOCAL: 'false',
      MASTER_MODEL: 'phi-3:3b',
      TASK_TIMEOUT: '60',
      CODEGOD_NATS_SERVER: '/opt/nats-server',
    };
    const config = load(env);
    assert.equal(config.bus.url, 'nats://old:4222');
    assert.equal(config.prefer_local, false);
    assert.equal(config.master_model, 'phi-3:3b');
    assert.equal(config.task_timeout_s, 60);
    assert.equal(config.nats_server, '/opt/nats-server');
    assert.equal(load({ ...env, CODEGOD_NATS_URL: 'nats://new' }).bus.url, 'nats://new');
  });

  it('that is structured may stand in a file or in a variable', () => {
    write(
      'work/codegod.yaml',
      'node: {gpus: [{name: RTX 3090, vram_bytes: 24GiB}], reserve_bytes: 512MiB}',
    );
    const gpus = [{ name: 'RTX 3090', vram_bytes: 25_769_803_776 }];
    assert.deepEqual(load().node.gpus, gpus);
    assert.equal(load().node.reserve_bytes, 536_870_912);
    const text = '[{"name":"RTX 3090","vram_bytes":25769803776}]';
    assert.deepEqual(load({ CODEGOD_NODE_GPUS: text }).node.gpus, gpus);
  });
});

describe('the address of Ollama', () => {
  for (const [given, expected] of [
    ['box', 'http://box:11434'],
    ['box:8080', 'http://box:8080'],
    [':8080', 'http://127.0.0.1:8080'],
    ['0.0.0.0', 'http://127.0.0.1:11434'],
    ['http://0.0.0.0:11434/', 'http://127.0.0.1:11434'],
    ['https://models.example.org/ollama', 'https://models.example.org/ollama'],
  ] as const) {
    it(`${given} means ${expected}`, () => {
      assert.equal(load({ OLLAMA_HOST: given }).ollama.host, expected);
    });
  }
});

describe('the start is refused, with the place and the remedy, for', () => {
  it('a mistyped name in a file', () => {
    const file = write('.config/codegod/config.yaml', 'http: {prot: 9000}\nprefer_locl: true\n');
    const message = refusal(load);
    assert(
      message.includes(`http.prot (${file}): there is no such setting; the nearest is http.port`),
    );
    assert.match(message, /prefer_locl .* nearest is prefer_local/);
  });

  it('a mistyped variable, but not for one that is merely foreign', () => {
    assert.match(
      refusal(() => load({ CODEGOD_HTTP_PROT: '1' })),
      /CODEGOD_HTTP_PROT .* nearest is CODEGOD_HTTP_PORT/,
    );
    load({ CODEGOD_MASTER_SERVICE_HOST: '10.0.0.7', CODEGOD_MASTER_PORT_8001_TCP: 'tcp://…' });
  });

  it('an unknown flag', () => {
    assert.match(
      refusal(() => load({}, { 'http.prt': 1 })),
      /nearest is http.port/,
    );
  });

  it('a value of the wrong form, all of them at once', () => {
    const env = { CODEGOD_HTTP_PORT: 'many', CODEGOD_SANDBOX: 'yes', CODEGOD_NODE_GPUS: '[' };
    const message = refusal(() => load(env));
    assert.match(message, /http\.port \(env CODEGOD_HTTP_PORT\)/);
    assert.match(message, /sandbox .*"auto"/);
    assert.match(message, /node\.gpus .*neither YAML nor JSON/);
  });

  it('a file that is no YAML, or no map', () => {
    const file = write('work/codegod.yaml', 'http: [\n');
    assert(refusal(load).includes(file));
    write('work/codegod.yaml', 'just words');
    assert.match(refusal(load), /expected a map/);
  });

  it('a project folder that would start programs or lower a guard', () => {
    write('work/codegod.yaml', 'mcp: {servers: {evil: {command: /tmp/x}}}\nsandbox: none\n');
    write('work/.env', 'CODEGOD_NATS_SERVER=/tmp/y\nCODEGOD_HOME=/tmp/z');
    const message = refusal(load);
    for (const key of ['mcp.servers', 'sandbox', 'nats_server', 'CODEGOD_HOME']) {
      assert(message.includes(`${key} (`), key);
    }
    rmSync(join(root, 'work'), { recursive: true });
    write('.config/codegod/config.yaml', 'mcp: {servers: {mine: {command: x}}}\nsandbox: none\n');
    assert.deepEqual(load().mcp.servers, {
      mine: { command: 'x', args: [], env: {}, read_only: [] },
    });
  });
});

describe('what is shown and handed on', () => {
  it('shows secrets masked, with their origin', () => {
    const rows = settingRows(load({ ANTHROPIC_API_KEY: 'sk-1234' }));
    const row = rows.find(({ key }) => key === 'anthropic_api_key');
    assert.equal(row?.value, '********');
    assert.equal(row?.origin, 'env ANTHROPIC_API_KEY');
    assert.equal(JSON.stringify(rows).includes('sk-1234'), false);
    assert.equal(rows.find(({ key }) => key === 'openai_api_key')?.value, null);
  });

  it('describes every setting', () => {
    const silent = settingRows(load()).filter(({ description }) => description === '');
    assert.deepEqual(silent, []);
  });

  it('gives a child process the same configuration, wherever it stands', () => {
    write('work/codegod.yaml', 'node: {gpus: [{name: A, vram_bytes: 8GiB}]}\nworker_model: m\n');
    const env = { HOME: root, CODEGOD_HOME: 'here', OPENAI_API_KEY: 'sk-9' };
    const parent = load(env, { 'http.port': '9000', 'mcp.servers': { mine: { command: 'x' } } });
    const childEnv = childEnvironment(parent, env);
    const child = loadConfig({ env: childEnv, cwd: '/', machineFile: '/nonexistent' });
    const { origins: _parent, ...expected } = parent;
    const { origins: _child, ...actual } = child;
    assert.deepEqual(actual, expected);
  });

  it('gives a foreign program only the variables it is meant to see', () => {
    const env = { PATH: '/bin', ANTHROPIC_API_KEY: 'sk' };
    assert.deepEqual(envFor(['PATH', 'LANG'], env), { PATH: '/bin' });
  });
});

describe('the screen', () => {
  const screen = { isTTY: true };
  it('is coloured for people, and as NO_COLOR and FORCE_COLOR say', () => {
    assert.equal(wantsColor(screen, {}), true);
    assert.equal(wantsColor({}, {}), false);
    assert.equal(wantsColor(screen, { NO_COLOR: '1', FORCE_COLOR: '1' }), false);
    assert.equal(wantsColor({}, { FORCE_COLOR: '1' }), true);
    assert.equal(wantsColor(screen, { TERM: 'dumb' }), false);
  });

  it('is interactive on a terminal outside CI only', () => {
    assert.equal(isInteractive(screen, {}), true);
    assert.equal(isInteractive({}, {}), false);
    assert.equal(isInteractive(screen, { CI: 'true' }), false);
  });
});
