/**
 * How programs that nobody vouches for are started, checks and tool servers: by way of a few lines of
 * Python (tools/confine.py) that close every descriptor but those named here, leave the keyring of
 * this session, load a seccomp filter and then become the program, with the same process id. It
 * takes some 12 ms. Where there is no Python, runtime/spawn.ts alone keeps our files out.
 */
import { join } from 'node:path';
import { packageRoot } from '../../../runtime/paths.ts';

export interface Command {
  readonly program: string;
  readonly args: readonly string[];
}

export interface Confinement {
  /** Descriptors above 2 that the program needs. */
  readonly keep?: readonly number[];
  /** Files of control groups that it writes itself into. */
  readonly cgroups?: readonly string[];
  /** A program that builds the world first, and the folder to stand in then. */
  readonly setup?: { readonly command: readonly string[]; readonly cwd: string };
  /** The bytes of a seccomp filter. */
  readonly filter?: Uint8Array | null;
  /** Starts the program without the filter where the kernel takes none. */
  readonly lenient?: boolean;
}

/** @param python an interpreter; null where there is none, and the command stays as it is. */
export function confined(
  python: string | null,
  command: Command,
  { keep = [], cgroups = [], setup, filter = null, lenient = false }: Confinement = {},
): Command {
  if (python === null || process.platform !== 'linux') return command;
  const how = {
    keep,
    cgroups,
    setup: setup?.command ?? null,
    cwd: setup?.cwd ?? null,
    lenient,
    filter: filter === null ? null : Buffer.from(filter).toString('base64'),
  };
  const script = join(packageRoot(), 'tools', 'confine.py');
  const flags = ['-I', '-S', '-B', script, JSON.stringify(how)];
  return { program: python, args: [...flags, command.program, ...command.args] };
}
