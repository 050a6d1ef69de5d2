/** The folders of an installation, for environments as users have them. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { pathToFileURL } from 'node:url';
import { ensurePaths, modulePath, packageRoot, pathsFor, sourceLoader } from './paths.ts';

describe('the folders', () => {
  it('are those of the XDG specification', () => {
    const paths = pathsFor(
      { HOME: '/home/ann', XDG_DATA_HOME: '/big', XDG_RUNTIME_DIR: '/run/7' },
      '/',
    );
    assert.deepEqual(paths, {
      config: '/home/ann/.config/codegod',
      data: '/big/codegod',
      state: '/home/ann/.local/state/codegod',
      cache: '/home/ann/.cache/codegod',
      run: '/run/7/codegod',
    });
  });

  it('ignore a relative XDG variable', () => {
    const paths = pathsFor({ HOME: '/home/ann', XDG_DATA_HOME: 'big', XDG_RUNTIME_DIR: 'r' }, '/w');
    assert.equal(paths.data, '/home/ann/.local/share/codegod');
    assert.equal(paths.run, '/home/ann/.local/state/codegod/run');
  });

  it('all move under CODEGOD_HOME, even a relative one', () => {
    const paths = pathsFor({ HOME: '/home/ann', XDG_DATA_HOME: '/big', CODEGOD_HOME: 'h' }, '/w');
    assert.deepEqual(Object.values(paths), [
      '/w/h/config',
      '/w/h/data',
      '/w/h/state',
      '/w/h/cache',
      '/w/h/run',
    ]);
  });

  it('are made for the user alone', () => {
    const home = mkdtempSync(join(tmpdir(), 'codegod-paths-'));
    const paths = pathsFor({ CODEGOD_HOME: join(home, 'new') }, '/');
    ensurePaths(paths);
    ensurePaths(paths);
    for (const folder of Object.values(paths)) assert.equal(statSync(folder).mode & 0o777, 0o700);
    rmSync(home, { recursive: true });
  });
});

describe('the root of the checkout', () => {
  it('holds the requirements of the tools environment', () => {
    assert(existsSync(join(packageRoot(), 'tools', 'requirements.txt')));
  });
});

describe('a module of ours', () => {
  it('is found and run in the form that this test has, from any folder', () => {
    assert.equal(modulePath('runtime/paths.test.ts'), import.meta.filename);
    const module = pathToFileURL(modulePath('runtime/paths.ts'));
    const code = `import { packageRoot } from ${JSON.stringify(module)};
      process.stdout.write(packageRoot());`;
    const args = [...sourceLoader(), '--input-type=module', '-e', code];
    assert.equal(
      execFileSync(process.execPath, args, { cwd: '/', encoding: 'utf8' }),
      packageRoot(),
    );
  });
});
