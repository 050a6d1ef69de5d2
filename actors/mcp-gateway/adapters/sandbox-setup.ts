/**
 * Gets this machine a sandbox: looks for one, and where bubblewrap is missing and we may, installs
 * it. Says what it did.
 *
 * U1: nobody waits for the installer where a lower rung works already: checks climb as soon as it
 *     has ended. It is tried once per start, and bounded.
 */
import type { Logger } from '../../../runtime/log.ts';
import { runProgram } from '../../../runtime/run-program.ts';
import { findControlGroups } from './control-groups.ts';
import { findSandbox, type Sandbox, type SandboxOptions, type SandboxRung } from './sandbox.ts';

export interface SandboxSetup extends SandboxOptions {
  /** From the configuration: `auto` climbs as high as it can, a rung's name allows that one. */
  readonly wanted: 'auto' | SandboxRung;
  readonly log: Logger;
  /** For the installer: proxies and package mirrors count. */
  readonly env: Readonly<Record<string, string | undefined>>;
}

const INSTALL_TIMEOUT_MS = 60_000;

export interface SandboxHolder {
  /** Who bounds the sums of memory and processes: one sentence. */
  readonly bounds: string;
  /** The best rung reached so far. */
  current(): Sandbox;
  /** Resolves when no better one will come. Never rejects. */
  readonly settled: Promise<void>;
}

/** Never fails: without any rung the answer is `none`, with the reasons in its account. */
export async function openSandbox(setup: SandboxSetup): Promise<SandboxHolder> {
  const { wanted, log } = setup;
  const ladder: readonly SandboxRung[] =
    wanted === 'auto' ? ['bwrap', 'unshare', 'none'] : [wanted, 'none'];
  const { groups, account: bounds } = await findControlGroups(setup);
  let sandbox = await findSandbox({ ...setup, groups, ladder });
  log.info('sandbox.found', { rung: sandbox.rung, account: sandbox.account, bounds });
  const isBest = sandbox.rung === ladder[0] || !ladder.includes('bwrap');
  const climb = async (): Promise<void> => {
    if (!(await installBubblewrap(setup))) return;
    sandbox = await findSandbox({ ...setup, groups, ladder });
    log.info('sandbox.installed', { package: 'bubblewrap', rung: sandbox.rung });
  };
  const settled = isBest
    ? Promise.resolve()
    : climb().catch((error: unknown) => log.warn('sandbox.install_failed', { error }));
  if (sandbox.rung === 'none') await settled; // U1
  return { bounds, current: () => sandbox, settled };
}

/** As root on Debian and its children; answers whether bubblewrap is there now and was not before. */
async function installBubblewrap(setup: SandboxSetup): Promise<boolean> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return false;
  const options = {
    env: { ...setup.env, PATH: setup.path, DEBIAN_FRONTEND: 'noninteractive' },
    timeoutMs: INSTALL_TIMEOUT_MS,
    // We may end first; a package manager must not be cut off in the middle of a package.
    detached: true,
    killSignal: 'SIGTERM',
  } as const;
  const present = await runProgram('bwrap', ['--version'], options);
  if (present.exitCode === 0) return false;
  const install = ['install', '-y', '--no-install-recommends', 'bubblewrap'];
  setup.log.info('sandbox.installing', { command: `apt-get ${install.join(' ')}` });
  const first = await runProgram('apt-get', install, options);
  if (first.exitCode === 0) return true;
  // A fresh container has no package lists yet.
  await runProgram('apt-get', ['update'], options);
  const second = await runProgram('apt-get', install, options);
  const done = second.exitCode === 0;
  if (!done) setup.log.warn('sandbox.install_failed', { reason: second.failure?.slice(-500) });
  return done;
}
