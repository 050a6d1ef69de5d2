/**
 * Why this machine has no sandbox, and what helps: from what the programs said and what the kernel
 * is set to. A program that is there but refused needs another cure than one that is missing.
 */
import { readIfThere } from './read-if-there.ts';

export interface SandboxTrouble {
  readonly reason: string;
  /** One command, or what to do. */
  readonly fix: string;
}

export interface SandboxSigns {
  /** Whether bubblewrap could be started at all. */
  readonly hasBubblewrap: boolean;
  /** The last words of what was tried. */
  readonly said: string;
  readonly platform?: NodeJS.Platform;
  readonly isRoot?: boolean;
  /** The text of a file; null where there is none. */
  readonly read?: (path: string) => string | null;
}

/** A profile that lets bubblewrap, and nothing else, make user namespaces. */
const APPARMOR_FIX =
  "printf 'abi <abi/4.0>,\\ninclude <tunables/global>\\nprofile bwrap /usr/bin/bwrap flags=(unconfined) { userns, }\\n'" +
  ' | sudo tee /etc/apparmor.d/bwrap && sudo apparmor_parser -r /etc/apparmor.d/bwrap';

const SWITCHES = [
  {
    path: '/proc/sys/kernel/apparmor_restrict_unprivileged_userns',
    off: '1',
    reason:
      'AppArmor forbids user namespaces to ordinary users (kernel.apparmor_restrict_unprivileged_userns=1, as Ubuntu is delivered)',
    fix: APPARMOR_FIX,
  },
  {
    path: '/proc/sys/user/max_user_namespaces',
    off: '0',
    reason: 'user namespaces are switched off (user.max_user_namespaces=0)',
    fix: 'sudo sysctl -w user.max_user_namespaces=15000',
  },
  {
    path: '/proc/sys/kernel/unprivileged_userns_clone',
    off: '0',
    reason: 'user namespaces are forbidden to ordinary users (kernel.unprivileged_userns_clone=0)',
    fix: 'sudo sysctl -w kernel.unprivileged_userns_clone=1',
  },
] as const;

export function sandboxTrouble(signs: SandboxSigns): SandboxTrouble {
  const { platform = process.platform, isRoot = process.getuid?.() === 0 } = signs;
  const read = signs.read ?? readIfThere;
  if (platform !== 'linux') {
    const reason = 'there is no sandbox on this system: what a model wrote cannot be checked';
    return { reason, fix: 'run the gateway on a Linux machine, or allow it with --no-sandbox' };
  }
  const isContainer =
    read('/.dockerenv') !== null ||
    read('/run/.containerenv') !== null ||
    /docker|containerd|kubepods|lxc/.test(read('/proc/1/cgroup') ?? '');
  if (isContainer) {
    return {
      reason: `this container may not make namespaces: ${signs.said}`,
      fix: 'start it with --security-opt seccomp=unconfined --security-opt apparmor=unconfined --cap-add SYS_ADMIN',
    };
  }
  // Root is asked for neither of the last two, and for no profile.
  const switches = isRoot ? SWITCHES.slice(1, 2) : SWITCHES;
  const found = switches.find(({ path, off }) => read(path)?.trim() === off);
  const missing = signs.hasBubblewrap ? '' : 'bubblewrap is not installed, and ';
  if (found !== undefined) {
    const install = signs.hasBubblewrap ? '' : `${installation(read)} && `;
    return { reason: `${missing}${found.reason}`, fix: `${install}${found.fix}` };
  }
  if (!signs.hasBubblewrap) {
    return { reason: 'bubblewrap is not installed', fix: installation(read) };
  }
  return { reason: `it was refused: ${signs.said}`, fix: 'allow it to make user namespaces' };
}

function installation(read: (path: string) => string | null): string {
  const system = read('/etc/os-release') ?? '';
  const ids = [...system.matchAll(/^ID(?:_LIKE)?="?([^"\n]*)"?$/gm)].flatMap(([, words = '']) =>
    words.split(' '),
  );
  const managers = [
    [['fedora', 'rhel', 'centos'], 'sudo dnf install bubblewrap'],
    [['arch'], 'sudo pacman -S bubblewrap'],
    [['suse', 'opensuse'], 'sudo zypper install bubblewrap'],
    [['alpine'], 'sudo apk add bubblewrap'],
  ] as const;
  const found = managers.find(([names]) => names.some(name => ids.includes(name)));
  return found?.[1] ?? 'sudo apt-get install bubblewrap';
}
