/**
 * Gets this machine a sandbox: looks for one, and where there is none and we may, installs
 * bubblewrap. Says what it did.
 */
import { execa } from 'execa';
import type { Logger } from '../../../runtime/log.ts';
import { findSandbox, type Sandbox, type SandboxOptions, type SandboxRung } from './sandbox.ts';

export interface SandboxSetup extends SandboxOptions {
  /** From the configuration: `auto` climbs as high as it can, a rung's name allows that one. */
  readonly wanted: 'auto' | SandboxRung;
  readonly log: Logger;
  /** For the installer: proxies and package mirrors count. */
  readonly env: Readonly<Record<string, string | undefined>>;
}

const INSTALL_TIMEOUT_MS = 180_000;

/** Never fails: without any rung the answer is `none`, with the reasons in its account. */
export async function ensureSandbox(setup: SandboxSetup): Promise<Sandbox> {
  const { wanted, log } = setup;
  const ladder: readonly SandboxRung[] =
    wanted === 'auto' ? ['bwrap', 'unshare', 'none'] : [wanted, 'none'];
  const found = await findSandbox({ ...setup, ladder });
  const rung = wanted === 'auto' ? 'unshare' : wanted;
  const enough = found.rung !== 'none' || rung === 'none';
  if (enough || !(await installBubblewrap(setup))) {
    log.info('sandbox.found', { rung: found.rung, account: found.account });
    return found;
  }
  const after = await findSandbox({ ...setup, ladder: ['bwrap', ...ladder] });
  log.info('sandbox.installed', {
    package: 'bubblewrap',
    rung: after.rung,
    account: after.account,
  });
  return after;
}

/** As root on Debian and its children; answers whether bubblewrap is there now and was not before. */
async function installBubblewrap(setup: SandboxSetup): Promise<boolean> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return false;
  const options = {
    env: { ...setup.env, PATH: setup.path, DEBIAN_FRONTEND: 'noninteractive' },
    extendEnv: false,
    reject: false,
    timeout: INSTALL_TIMEOUT_MS,
  } as const;
  const present = await execa('bwrap', ['--version'], options);
  if (present.exitCode === 0) return false;
  const install = ['install', '-y', '--no-install-recommends', 'bubblewrap'];
  setup.log.info('sandbox.installing', { command: `apt-get ${install.join(' ')}` });
  const first = await execa('apt-get', install, options);
  if (first.exitCode === 0) return true;
  // A fresh container has no package lists yet.
  await execa('apt-get', ['update'], options);
  const second = await execa('apt-get', install, options);
  const done = second.exitCode === 0;
  if (!done) setup.log.warn('sandbox.install_failed', { reason: second.stderr.slice(-500) });
  return done;
}
