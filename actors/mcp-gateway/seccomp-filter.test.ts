/**
 * Goal: the filter answers right on both processors, also on the one that runs no test of ours.
 * Method: its program runs in a small interpreter of classic BPF, over calls made up here.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type FilterOptions, seccompFilter } from './seccomp-filter.ts';

const X86_64 = 0xc000_003e;
const AARCH64 = 0xc000_00b7;
const I386 = 0x4000_0003;
const X32 = 0x4000_0000;
const [EPERM, ENOSYS, EAFNOSUPPORT] = [1, 38, 97];
const STEPS_MAX = 4_096;

interface Call {
  readonly audit: number;
  readonly number: number;
  readonly args?: readonly number[];
}

/** Runs a seccomp program as the kernel does; answers the errno, or 0 where the call is allowed. */
function outcome(program: Uint8Array, { audit, number, args = [] }: Call): number {
  const code = Buffer.from(program);
  const data = Buffer.alloc(64);
  data.writeUInt32LE(number, 0);
  data.writeUInt32LE(audit, 4);
  for (const [index, value] of args.entries()) data.writeBigInt64LE(BigInt(value), 16 + 8 * index);
  let accumulator = 0;
  for (let at = 0, steps = 0; steps < STEPS_MAX; at++, steps++) {
    const [operation, value] = [code.readUInt16LE(8 * at), code.readUInt32LE(8 * at + 4)];
    const jump = (is: boolean): void => {
      at += code.readUInt8(8 * at + (is ? 2 : 3));
    };
    if (operation === 0x20) accumulator = data.readUInt32LE(value);
    else if (operation === 0x15) jump(accumulator === value);
    else if (operation === 0x35) jump(accumulator >= value);
    else if (operation === 0x45) jump((accumulator & value) !== 0);
    else if (operation === 0x06) {
      if (value === 0x7fff_0000) return 0;
      assert.equal(value & 0xffff_0000, 0x0005_0000, 'neither allowed nor an error');
      return value & 0xffff;
    } else assert.fail(`instruction ${at} has the code ${operation}`);
  }
  return assert.fail('it does not end');
}

/** Numbers on [x86_64, aarch64], from the kernel's own tables; what it answers. */
type Case = readonly [
  name: string,
  numbers: readonly [number, number],
  args: readonly number[],
  error: number,
];

const ALWAYS: readonly Case[] = [
  ...(
    [
      ['read', [0, 63]],
      ['write', [1, 64]],
      ['execve', [59, 221]],
      ['openat', [257, 56]],
      ['futex', [202, 98]],
      ['mmap', [9, 222]],
      ['statx', [332, 291]],
      ['pidfd_open', [434, 434]],
      ['close_range', [436, 436]],
    ] as const
  ).map(([name, numbers]): Case => [name, numbers, [], 0]),
  ['keyctl', [250, 219], [], EPERM],
  ['add_key', [248, 217], [], EPERM],
  ['request_key', [249, 218], [], EPERM],
  ['ptrace', [101, 117], [], EPERM],
  ['process_vm_readv', [310, 270], [], EPERM],
  ['bpf', [321, 280], [], EPERM],
  ['perf_event_open', [298, 241], [], EPERM],
  ['userfaultfd', [323, 282], [], EPERM],
  ['kexec_load', [246, 104], [], EPERM],
  ['init_module', [175, 105], [], EPERM],
  ['reboot', [169, 142], [], EPERM],
  ['io_uring_setup', [425, 425], [8], ENOSYS],
  ['io_uring_enter', [426, 426], [], ENOSYS],
  ['socket of this machine', [41, 198], [1, 1, 0], 0],
  ['socket of IP', [41, 198], [2, 1, 0], 0],
  ['socket of IPv6', [41, 198], [10, 2, 0], 0],
  ['socket of routes', [41, 198], [16, 3, 0], 0],
  ['socket of the audit', [41, 198], [16, 3, 9], EAFNOSUPPORT],
  ['vsock', [41, 198], [40, 1, 0], EAFNOSUPPORT],
  ['alg', [41, 198], [38, 5, 0], EAFNOSUPPORT],
  ['packet', [41, 198], [17, 3, 0], EAFNOSUPPORT],
  ['TIOCGWINSZ', [16, 29], [0, 0x5413], 0],
  ['TIOCSTI', [16, 29], [0, 0x5412], EPERM],
  // The kernel looks at the lower half alone, and so does the filter.
  ['TIOCSTI with bits above', [16, 29], [0, 0x1_0000_5412], EPERM],
  ['TIOCLINUX', [16, 29], [0, 0x541c], EPERM],
  ['clone of a thread', [56, 220], [0x3d_0f00], 0],
  ['clone of a process', [56, 220], [17], 0],
];

const NAMESPACES: readonly Case[] = [
  ['unshare', [272, 97], [0x1000_0000], EPERM],
  ['setns', [308, 268], [], EPERM],
  ['chroot', [161, 51], [], EPERM],
  ['pivot_root', [155, 41], [], EPERM],
  ['mount', [165, 40], [], EPERM],
  ['umount2', [166, 39], [], EPERM],
  ['clone3', [435, 435], [], ENOSYS],
  ...[0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000].map(
    (flag): Case => [`clone ${flag.toString(16)}`, [56, 220], [flag + 17], EPERM],
  ),
];

const HIDDEN: readonly Case[] = [
  ['memfd_create', [319, 279], [], ENOSYS],
  ['shmget', [29, 194], [], ENOSYS],
  ['msgget', [68, 186], [], ENOSYS],
];

const check = { hidesMemory: false, namespaces: false };

for (const [column, processor, audit] of [
  [0, 'x64', X86_64],
  [1, 'arm64', AARCH64],
] as const) {
  const program = (options: FilterOptions): Uint8Array => {
    const made = seccompFilter(processor, options);
    assert(made !== null && made.length % 8 === 0);
    return made;
  };
  const told = (options: FilterOptions, cases: readonly Case[]) =>
    cases.map(([name, numbers, args]) => {
      const call = { audit, number: numbers[column], args };
      return [name, outcome(program(options), call)];
    });
  const expected = (cases: readonly Case[]) => cases.map(([name, , , error]) => [name, error]);
  const allowed = (cases: readonly Case[]) => cases.map(([name]) => [name, 0]);

  test(`${processor}: calls are told apart by their numbers and arguments`, () => {
    const all = [...ALWAYS, ...NAMESPACES, ...HIDDEN];
    assert.deepEqual(told(check, all), expected(all));
  });

  test(`${processor}: what is declared is let through, and no more`, () => {
    const hiding = { ...check, hidesMemory: true };
    const rest = [...ALWAYS, ...NAMESPACES];
    assert.deepEqual(told(hiding, HIDDEN), allowed(HIDDEN));
    assert.deepEqual(told(hiding, rest), expected(rest));
    const making = { ...check, namespaces: true };
    assert.deepEqual(told(making, NAMESPACES), allowed(NAMESPACES));
    assert.deepEqual(told(making, [...ALWAYS, ...HIDDEN]), expected([...ALWAYS, ...HIDDEN]));
  });

  test(`${processor}: calls of another interface do not exist`, () => {
    const foreign = column === 0 ? AARCH64 : X86_64;
    for (const other of [foreign, I386]) {
      for (const number of [0, 63, 250, 219]) {
        assert.equal(outcome(program(check), { audit: other, number }), ENOSYS);
      }
    }
  });
}

test('x64: numbers of x32 do not exist', () => {
  const program = seccompFilter('x64', check);
  assert(program !== null);
  for (const number of [X32, X32 + 1, X32 + 250, X32 + 521, 0xffff_ffff]) {
    assert.equal(outcome(program, { audit: X86_64, number }), ENOSYS);
  }
});

test('for other processors there is none', () => {
  assert.equal(seccompFilter('riscv64', check), null);
});
