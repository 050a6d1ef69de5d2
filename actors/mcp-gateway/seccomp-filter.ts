/**
 * Which system calls a check or a tool server may not make, as the program that the kernel runs at
 * each of them (classic BPF, as bubblewrap takes it and `prctl` loads it).
 *
 * F1: what is refused fails with the error of a kernel that has no such call, or of a user without the
 *     right to it: programs take their other way, and nothing is killed.
 * F2: it is a list of what no compiler, interpreter, test runner or browserless tool needs: keys of
 *     the kernel, namespaces and mounts, other processes, io_uring, BPF, machine and clock.
 *     What a tool server needs beyond that is declared (catalog.ts), and no more is let through.
 * F3: sockets are those of this machine: local ones, IP (of an empty network), and the routing
 *     questions that `getifaddrs` asks. No vsock, which leads to the host of a virtual machine.
 */

const EPERM = 1;
const ENOSYS = 38;
const EAFNOSUPPORT = 97;

/** Numbers on [x86_64, aarch64]; null where that processor has no such call. */
type Numbers = readonly [number | null, number | null];

const REFUSED: Readonly<Record<string, Numbers>> = {
  ...{ add_key: [248, 217], request_key: [249, 218], keyctl: [250, 219] },
  ...{ ptrace: [101, 117], process_vm_readv: [310, 270], process_vm_writev: [311, 271] },
  open_by_handle_at: [304, 265],
  ...{
    kcmp: [312, 272],
    pidfd_getfd: [438, 438],
    move_pages: [279, 239],
    migrate_pages: [256, 238],
  },
  ...{ bpf: [321, 280], perf_event_open: [298, 241], userfaultfd: [323, 282] },
  ...{ fanotify_init: [300, 262], lookup_dcookie: [212, 18], syslog: [103, 116], acct: [163, 89] },
  ...{ init_module: [175, 105], finit_module: [313, 273], delete_module: [176, 106] },
  ...{ kexec_load: [246, 104], kexec_file_load: [320, 294], reboot: [169, 142] },
  ...{ swapon: [167, 224], swapoff: [168, 225], quotactl: [179, 60], quotactl_fd: [443, 443] },
  ...{ settimeofday: [164, 170], clock_settime: [227, 112], vhangup: [153, 58] },
  ...{ iopl: [172, null], ioperm: [173, null], modify_ldt: [154, null], uselib: [134, null] },
};

/** What browsers and container programs make their own sandboxes with. */
const NAMESPACES: Readonly<Record<string, Numbers>> = {
  ...{ unshare: [272, 97], setns: [308, 268], chroot: [161, 51], pivot_root: [155, 41] },
  ...{ mount: [165, 40], umount2: [166, 39], open_tree: [428, 428], move_mount: [429, 429] },
  ...{ fsopen: [430, 430], fsconfig: [431, 431], fsmount: [432, 432], fspick: [433, 433] },
  ...{ mount_setattr: [442, 442], open_tree_attr: [467, 467] },
};

/** Programs ask for these first and have another way where the kernel is too old. */
const UNKNOWN: Readonly<Record<string, Numbers>> = {
  ...{ io_uring_setup: [425, 425], io_uring_enter: [426, 426], io_uring_register: [427, 427] },
  memfd_secret: [447, 447],
};

/** Its flags lie in memory, where a filter cannot look; the C libraries go on with `clone`. */
const CLONE3: Readonly<Record<string, Numbers>> = { clone3: [435, 435] };

/** Memory that is in no process's own sum: refused where such sums are kept. */
const HIDDEN_MEMORY: Readonly<Record<string, Numbers>> = {
  ...{ memfd_create: [319, 279], shmget: [29, 194], msgget: [68, 186] },
};

/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. */
const NEW_NAMESPACES = 0x7e02_0000;
const [AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, NETLINK_ROUTE] = [1, 2, 10, 16, 0];
/** Writes into the terminal's input. */
const TIOCSTI = 0x5412;
const TIOCLINUX = 0x541c;

interface Processor {
  readonly column: 0 | 1;
  readonly audit: number;
  readonly clone: number;
  readonly socket: number;
  readonly ioctl: number;
}

const PROCESSORS: Readonly<Partial<Record<NodeJS.Architecture, Processor>>> = {
  x64: { column: 0, audit: 0xc000_003e, clone: 56, socket: 41, ioctl: 16 },
  arm64: { column: 1, audit: 0xc000_00b7, clone: 220, socket: 198, ioctl: 29 },
};

/** From here on numbers are of the x32 interface, another way to the same calls. */
const X32 = 0x4000_0000;

type Instruction = readonly [code: number, ifTrue: number, ifFalse: number, value: number];

const load = (offset: number): Instruction => [0x20, 0, 0, offset];
const loadNumber = load(0);
/** The lower half of an argument: all that is compared here are ints. */
const loadArgument = (index: number): Instruction => load(16 + 8 * index);
const answer = (value: number): Instruction => [0x06, 0, 0, value];
const refuse = (errno: number): Instruction => answer(0x0005_0000 + errno);
const ALLOW = answer(0x7fff_0000);

/** Runs `then` where the value at hand is this one. */
const ifEqual = (value: number, then: readonly Instruction[]): Instruction[] => [
  [0x15, 0, then.length, value],
  ...then,
];
const ifAnyBit = (bits: number, then: readonly Instruction[]): Instruction[] => [
  [0x45, 0, then.length, bits],
  ...then,
];
/** Runs `then` where the value at hand is none of these. */
const unlessOneOf = (
  values: readonly number[],
  then: readonly Instruction[],
): readonly Instruction[] => [
  ...values.map(
    (value, index): Instruction => [0x15, values.length - 1 - index + then.length, 0, value],
  ),
  ...then,
];
/** At a call of this number, looks at its arguments. */
const atCall = (number: number, look: readonly Instruction[]): Instruction[] =>
  ifEqual(number, [...look, loadNumber]);

export interface FilterOptions {
  /** Whether memory may be had that no process is charged with. */
  readonly hidesMemory: boolean;
  /** Whether namespaces and mounts may be made. */
  readonly namespaces: boolean;
}

/** @returns null for a processor whose numbers are not known here. */
export function seccompFilter(
  architecture: NodeJS.Architecture,
  { hidesMemory, namespaces }: FilterOptions,
): Uint8Array | null {
  const processor = PROCESSORS[architecture];
  if (processor === undefined) return null;
  const { column, audit, clone, socket, ioctl } = processor;
  const all = (calls: Readonly<Record<string, Numbers>>, errno: number): Instruction[] =>
    Object.values(calls).flatMap(numbers => {
      const number = numbers[column];
      return number === null ? [] : ifEqual(number, [refuse(errno)]);
    });
  return assembled([
    load(4),
    ...unlessOneOf([audit], [refuse(ENOSYS)]),
    loadNumber,
    ...(column === 0 ? ([[0x35, 0, 1, X32], refuse(ENOSYS)] as const) : []),
    ...all(REFUSED, EPERM),
    ...all(UNKNOWN, ENOSYS),
    ...(hidesMemory ? [] : all(HIDDEN_MEMORY, ENOSYS)),
    ...(namespaces
      ? []
      : [
          ...all(NAMESPACES, EPERM),
          ...all(CLONE3, ENOSYS),
          ...atCall(clone, [loadArgument(0), ...ifAnyBit(NEW_NAMESPACES, [refuse(EPERM)])]),
        ]),
    ...atCall(socket, [
      loadArgument(0),
      ...unlessOneOf([AF_UNIX, AF_INET, AF_INET6, AF_NETLINK], [refuse(EAFNOSUPPORT)]),
      ...ifEqual(AF_NETLINK, [
        loadArgument(2),
        ...unlessOneOf([NETLINK_ROUTE], [refuse(EAFNOSUPPORT)]),
      ]),
    ]),
    ...atCall(ioctl, [
      loadArgument(1),
      ...ifEqual(TIOCSTI, [refuse(EPERM)]),
      ...ifEqual(TIOCLINUX, [refuse(EPERM)]),
    ]),
    ALLOW,
  ]);
}

function assembled(instructions: readonly Instruction[]): Uint8Array {
  const bytes = Buffer.alloc(8 * instructions.length);
  for (const [index, [code, ifTrue, ifFalse, value]] of instructions.entries()) {
    bytes.writeUInt16LE(code, 8 * index);
    bytes.writeUInt8(ifTrue, 8 * index + 2);
    bytes.writeUInt8(ifFalse, 8 * index + 3);
    bytes.writeUInt32LE(value, 8 * index + 4);
  }
  return bytes;
}
