/**
 * What a sandbox shows to the program inside it, as data: one plan, rendered for bubblewrap or for
 * `unshare`. The program sees a new root with the system's programs read-only, its own folder at
 * `/work`, an empty `/tmp` of bounded size, its own processes, no network and no environment.
 *
 * P1: what is not listed here does not exist inside: no home, no data directory, no sockets.
 * P2: limits hold per process in the kernel (`ulimit`); the watcher in the adapter bounds the sums.
 *     What lies in memory and in no process's sum is bounded by the size of its file system, or its
 *     system call is refused (seccomp-filter.ts).
 */

export interface SandboxLimits {
  readonly timeoutMs: number;
  /** Private memory of all processes together, watched; and of each one, enforced. */
  readonly memoryBytesMax: number;
  readonly processesMax: number;
  readonly fileBytesMax: number;
  readonly openFilesMax: number;
  readonly tmpBytesMax: number;
  readonly sharedMemoryBytesMax: number;
  /** What its folder may hold, watched. */
  readonly workBytesMax: number;
}

export const SANDBOX_LIMITS: SandboxLimits = {
  timeoutMs: 120_000,
  memoryBytesMax: 2 * 1024 ** 3,
  processesMax: 256,
  fileBytesMax: 256 * 1024 ** 2,
  openFilesMax: 4_096,
  tmpBytesMax: 256 * 1024 ** 2,
  sharedMemoryBytesMax: 64 * 1024 ** 2,
  workBytesMax: 1024 ** 3,
};

export interface SandboxPlan {
  /** Folders and files that exist outside, shown read-only at the same path. */
  readonly readOnly: readonly string[];
  /** Links inside: where each lies and what it says. */
  readonly links: readonly { readonly path: string; readonly target: string }[];
  /** The folder shown writable at {@link WORK}. */
  readonly work: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly command: readonly string[];
  readonly limits: SandboxLimits;
  /** The user inside; null keeps the user of the gateway. */
  readonly uid: number | null;
}

export const WORK = '/work';

/** The command under its limits. Every shell knows these flags except that of the process count. */
export function limitedCommand(plan: Pick<SandboxPlan, 'command' | 'limits'>): string[] {
  const { limits } = plan;
  const kib = (bytes: number) => Math.floor(bytes / 1024);
  const script = [
    'ulimit -c 0',
    `ulimit -n ${limits.openFilesMax}`,
    `ulimit -f ${Math.floor(limits.fileBytesMax / 512)}`,
    `ulimit -d ${kib(limits.memoryBytesMax)}`,
    `{ ulimit -u ${limits.processesMax} || ulimit -p ${limits.processesMax}; } 2>/dev/null`,
    'exec "$@"',
  ].join('; ');
  return ['sh', '-c', script, 'limited', ...plan.command];
}

/**
 * The limited command without any right over its namespaces. As root it also becomes a user that
 * owns nothing, so that the process limit counts.
 */
function droppedCommand(plan: SandboxPlan): string[] {
  const { uid } = plan;
  const user = uid === null ? [] : [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups'];
  const rights = ['--no-new-privs', '--bounding-set=-all', '--inh-caps=-all'];
  return ['setpriv', ...user, ...rights, '--', ...limitedCommand(plan)];
}

/** @param filter the descriptor at which bubblewrap reads a seccomp filter. */
export function bubblewrapArguments(plan: SandboxPlan, filter: number | null): string[] {
  const user = plan.uid === null ? ['--unshare-user'] : [];
  return [
    ...user,
    ...['--unshare-ipc', '--unshare-pid', '--unshare-net', '--unshare-uts'],
    ...['--unshare-cgroup-try', '--die-with-parent', '--new-session', '--clearenv'],
    ...Object.entries(plan.environment).flatMap(([name, value]) => ['--setenv', name, value]),
    // First of all: what is shown may itself lie below /tmp.
    ...['--perms', '1777', '--size', String(plan.limits.tmpBytesMax), '--tmpfs', '/tmp'],
    ...parentFolders(plan).flatMap(folder => ['--perms', '0755', '--dir', folder]),
    ...plan.readOnly.flatMap(path => ['--ro-bind-try', path, path]),
    ...plan.links.flatMap(({ path, target }) => ['--symlink', target, path]),
    ...['--proc', '/proc', '--dev', '/dev'],
    // bubblewrap's own /dev is a file system in memory without a bound.
    ...['--perms', '1777', '--size', String(plan.limits.sharedMemoryBytesMax)],
    ...['--tmpfs', '/dev/shm', '--remount-ro', '/dev'],
    ...(filter === null ? [] : ['--seccomp', String(filter)]),
    ...['--bind', plan.work, WORK, '--chdir', WORK, '--remount-ro', '/'],
    '--',
    // In a user namespace of its own making bubblewrap leaves no right by itself.
    ...(plan.uid === null ? limitedCommand(plan) : droppedCommand(plan)),
  ];
}

/** How `unshare` makes the namespaces. Without a uid of its own the program gets a user namespace. */
export function unshareArguments(plan: Pick<SandboxPlan, 'uid'>): string[] {
  const user = plan.uid === null ? ['--user', '--map-root-user'] : [];
  const kinds = ['--mount', '--pid', '--net', '--ipc', '--uts'];
  return [...user, ...kinds, '--fork', '--kill-child=SIGKILL', '--'];
}

/** What runs in them in the end, with the environment of the plan alone. */
export function insideCommand(plan: SandboxPlan): string[] {
  const environment = Object.entries(plan.environment).map(([name, value]) => `${name}=${value}`);
  return ['env', '-i', ...environment, ...droppedCommand(plan)];
}

/** Builds the same new root in them. `root` is an empty folder. */
export function unshareScript(plan: SandboxPlan, root: string): string {
  const at = (path: string) => quote(`${root}${path}`);
  const showReadOnly = (path: string) => [
    `if [ -d ${quote(path)} ]; then mkdir -p ${at(path)}; else : > ${at(path)}; fi`,
    `mount --rbind ${quote(path)} ${at(path)}`,
    `mount -o remount,bind,ro ${at(path)}`,
  ];
  return [
    'set -e',
    // An ordinary user's search path leaves out where pivot_root and ip are kept.
    'PATH=$PATH:/usr/sbin:/sbin',
    `mount -t tmpfs -o mode=0755,size=16m tmpfs ${quote(root)}`,
    `mkdir ${at('/tmp')}`,
    `mount -t tmpfs -o mode=1777,size=${plan.limits.tmpBytesMax} tmpfs ${at('/tmp')}`,
    ...parentFolders(plan).map(folder => `mkdir -p ${at(folder)}`),
    ...plan.readOnly.flatMap(path => [
      `if [ -e ${quote(path)} ]; then`,
      ...showReadOnly(path),
      'fi',
    ]),
    ...plan.links.map(({ path, target }) => `ln -s ${quote(target)} ${at(path)}`),
    `mkdir ${at('/proc')} ${at('/dev')} ${at(WORK)} ${at('/.old')}`,
    `mount -t proc proc ${at('/proc')}`,
    `for device in null zero full random urandom; do : > ${at('/dev')}/$device; ` +
      `mount --bind /dev/$device ${at('/dev')}/$device; done`,
    `mkdir ${at('/dev/shm')}; mount -t tmpfs -o mode=1777,size=${plan.limits.sharedMemoryBytesMax} tmpfs ${at('/dev/shm')}`,
    `ln -s /proc/self/fd ${at('/dev/fd')}`,
    `mount --bind ${quote(plan.work)} ${at(WORK)}`,
    '{ ip link set lo up || ifconfig lo up; } >/dev/null 2>&1 || true',
    `cd ${quote(root)}; pivot_root . .old; cd ${WORK}; umount -l /.old; rmdir /.old`,
    'mount -o remount,bind,ro /',
    'exec "$@"',
  ].join('\n');
}

/** Every folder above something shown, outermost first: they must be passable for another user. */
function parentFolders(plan: SandboxPlan): string[] {
  const shown = [...plan.readOnly, ...plan.links.map(link => link.path)];
  const folders = new Set<string>();
  for (const path of shown) {
    const segments = path.split('/').slice(1, -1);
    for (let depth = 1; depth <= segments.length; depth++) {
      folders.add(`/${segments.slice(0, depth).join('/')}`);
    }
  }
  return [...folders]
    .filter(folder => !plan.readOnly.some(path => isWithin(folder, path)))
    .sort((a, b) => a.length - b.length);
}

/** Whether `path` is `folder` or lies below it. */
export function isWithin(path: string, folder: string): boolean {
  return path === folder || path.startsWith(folder === '/' ? '/' : `${folder}/`);
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
