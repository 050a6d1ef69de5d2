/**
 * The tool servers we know: what each is for, where it comes from, what it needs. Only what stands
 * here, or in a person's own configuration, is ever started.
 *
 * T1: versions are pinned by the lock files of npm and of the tools environment, not here.
 * T2: `{worktrees}`, `{memory}` and `{proxy}` in arguments and variables are filled in at start.
 */

export type ServerOrigin =
  | { readonly kind: 'npm'; readonly package: string }
  | { readonly kind: 'python'; readonly package: string; readonly module: string }
  | { readonly kind: 'command'; readonly command: string };

/** `filtered`: as a check; `namespaces`: those for sandboxes of its own too; `all`: no filter. */
export type SystemCalls = 'filtered' | 'namespaces' | 'all';

export interface CatalogEntry {
  readonly name: string;
  readonly description: string;
  readonly origin: ServerOrigin;
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** Whether it has business outside this machine. */
  readonly network: boolean;
  /** Tools without an effect, beside those of known servers whose annotations say so. */
  readonly readOnly: readonly string[];
  /** Whether it remembers: each build then has one of its own, which ends with it. */
  readonly perBuild: boolean;
  /** What it may ask of the kernel (seccomp-filter.ts): a browser needs `namespaces`. */
  readonly systemCalls: SystemCalls;
  /** What the tools' path arguments mean; see `argument-guard.ts`. */
  readonly guard: 'filesystem' | 'git' | 'fetch' | 'none';
}

const npm = (name: string): ServerOrigin => ({
  kind: 'npm',
  package: `@modelcontextprotocol/server-${name}`,
});

const python = (name: string): ServerOrigin => ({
  kind: 'python',
  package: `mcp-server-${name}`,
  module: `mcp_server_${name}`,
});

const plain = {
  args: [],
  environment: {},
  network: false,
  readOnly: [],
  perBuild: false,
  systemCalls: 'filtered',
  guard: 'none',
} as const;

export const CATALOG: readonly CatalogEntry[] = [
  {
    ...plain,
    name: 'filesystem',
    description: "reads and writes files in an attempt's worktree",
    origin: npm('filesystem'),
    args: ['{worktrees}'],
    guard: 'filesystem',
  },
  {
    ...plain,
    name: 'git',
    description: "looks at and stages changes in an attempt's worktree",
    origin: python('git'),
    args: ['--repository', '{worktrees}'],
    guard: 'git',
  },
  {
    ...plain,
    name: 'memory',
    description: 'a small knowledge graph of one build',
    origin: npm('memory'),
    environment: { MEMORY_FILE_PATH: '{memory}' },
    perBuild: true,
  },
  {
    ...plain,
    name: 'sequential-thinking',
    description: 'notes for thinking in steps',
    origin: npm('sequential-thinking'),
    environment: { DISABLE_THOUGHT_LOGGING: 'true' },
    readOnly: ['sequentialthinking'],
  },
  {
    ...plain,
    name: 'time',
    description: 'the time of day in the zones of the world',
    origin: python('time'),
    args: ['--local-timezone', 'UTC'],
    readOnly: ['get_current_time', 'convert_time'],
  },
  {
    ...plain,
    name: 'fetch',
    description: 'fetches public web pages as text',
    origin: python('fetch'),
    args: ['--proxy-url', '{proxy}'],
    network: true,
    readOnly: ['fetch'],
    guard: 'fetch',
  },
];

/** A server from a person's own configuration. */
export function configuredEntry(
  name: string,
  server: {
    readonly command: string;
    readonly args?: readonly string[] | undefined;
    readonly env?: Readonly<Record<string, string>> | undefined;
    readonly read_only?: readonly string[] | undefined;
    readonly system_calls?: SystemCalls | undefined;
  },
): CatalogEntry {
  // An empty variable means "not set" in configuration files; it never replaces a real value.
  const environment = Object.entries(server.env ?? {}).filter(([, value]) => value !== '');
  return {
    ...plain,
    name,
    description: 'from the configuration',
    origin: { kind: 'command', command: server.command },
    args: server.args ?? [],
    environment: Object.fromEntries(environment),
    readOnly: server.read_only ?? [],
    systemCalls: server.system_calls ?? 'filtered',
    network: true,
  };
}
