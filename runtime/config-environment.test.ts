/** Who gets to know what: no key goes where nobody works with it, and nothing leads a program astray. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { secretVariables } from './config.ts';
import {
  type ActorName,
  actorEnvironment,
  installerEnvironment,
  plainEnvironment,
} from './config-environment.ts';

const USUAL = { PATH: '/bin', HOME: '/home/me', LANG: 'C', LC_ALL: 'C', XDG_RUNTIME_DIR: '/run' };
const ASTRAY = {
  ...{ GIT_DIR: '/x', GIT_WORK_TREE: '/x', GIT_INDEX_FILE: '/x', GIT_CONFIG_GLOBAL: '/x' },
  ...{ PYTHONPATH: '/x', PYTHONHOME: '/x', VIRTUAL_ENV: '/x', PIP_USER: '1', PIP_TARGET: '/x' },
  ...{
    UV_SYSTEM_PYTHON: '1',
    UV_PROJECT_ENVIRONMENT: '/x',
    NPM_CONFIG_PREFIX: '/x',
    GOOS: 'plan9',
  },
  ...{ BASH_ENV: '/x', LD_PRELOAD: '/x' },
};
const KEYS = {
  ...{ ANTHROPIC_API_KEY: 'sk', CODEGOD_OPENAI_API_KEY: 'sk', AWS_SECRET_ACCESS_KEY: 'sk' },
  ...{ GITHUB_TOKEN: 'sk', CODEGOD_HTTP_KEY: 'sk', CODEGOD_SLACK_BOT_TOKEN: 'sk' },
  CODEGOD_MCP_SERVERS: '{"mine":{"env":{"KEY":"sk"}}}',
};
const ways = { HTTPS_PROXY: 'http://p', no_proxy: 'here', SSL_CERT_FILE: '/c' };
const index = { PIP_INDEX_URL: 'https://i', UV_INDEX: 'https://i', GOPROXY: 'https://g' };

test('any program knows where things are, and nothing of ours', () => {
  const all = { ...USUAL, ...ASTRAY, ...KEYS, ...ways, ...index, CODEGOD_HTTP_PORT: '1' };
  assert.deepEqual(plainEnvironment(all), USUAL);
});

test('what installs something knows how packages are found besides', () => {
  const all = { ...USUAL, ...ASTRAY, ...KEYS, ...ways, ...index };
  assert.deepEqual(installerEnvironment(all), { ...USUAL, ...ways, ...index });
});

test('each actor has the keys that it works with and no other', () => {
  const all = { ...USUAL, ...ASTRAY, ...KEYS, CODEGOD_BUS_TOKEN: 'bus', CODEGOD_HTTP_PORT: '1' };
  const keysOf = (actor: ActorName) =>
    Object.entries(actorEnvironment(actor, all, secretVariables()))
      .filter(([, value]) => value.includes('sk'))
      .map(([name]) => name);
  assert.deepEqual(keysOf('resource-monitor'), []);
  assert.deepEqual(keysOf('master'), []);
  assert.deepEqual(keysOf('worker'), ['CODEGOD_OPENAI_API_KEY']);
  assert.deepEqual(keysOf('mcp-gateway'), ['CODEGOD_SLACK_BOT_TOKEN', 'CODEGOD_MCP_SERVERS']);
  for (const actor of ['master', 'worker', 'mcp-gateway', 'resource-monitor'] as const) {
    const environment = actorEnvironment(actor, all, secretVariables());
    assert.equal(environment['CODEGOD_BUS_TOKEN'], 'bus');
    assert.equal(environment['CODEGOD_HTTP_PORT'], '1');
    for (const name of Object.keys(ASTRAY)) assert.equal(environment[name], undefined, name);
  }
});
