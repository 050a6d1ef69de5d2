/**
 * The configuration: read once at start, from every place a setting may stand, checked whole.
 * The only file that looks at `process.env`.
 *
 * Precedence: flags > environment > .env > ./codegod.yaml > joined.yaml (what `codegod join` wrote) >
 * config.yaml of the user > that of the machine (/etc/codegod) > defaults.
 *
 * K1: every value knows where it came from.
 * K2: a name that nobody knows stops the start and is answered with the nearest one that is known.
 * K3: a folder that one merely stands in cannot start programs or lower the guards: such settings are
 *     refused from ./codegod.yaml and .env. What sends secrets or work elsewhere counts there only
 *     where the person trusts the folder (project-trust.ts), and is left out and told of elsewhere.
 *     PROJECT_RULES says which is which.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseEnv } from 'node:util';
import { parse as parseYaml } from 'yaml';
import { z } from 'zod';
import { editDistance } from '../protocol/edit-distance.ts';
import { CodeGodError } from '../protocol/errors.ts';
import { ALIASES, PROJECT_RULES, Settings } from './config-schema.ts';
import { type Environment, type Paths, pathsFor } from './paths.ts';
import { isTrusted, type ProjectFiles } from './project-trust.ts';

export interface Config extends Settings {
  readonly paths: Paths;
  /** For each key where its value came from: `flag`, `env NAME`, `.env NAME`, a file, `default`. */
  readonly origins: Readonly<Record<string, string>>;
  /** Settings of a folder that nobody trusts, which do not count (K3). */
  readonly untrusted: readonly UntrustedSetting[];
}

export interface UntrustedSetting {
  readonly key: string;
  /** The file, and the variable where it is one. */
  readonly origin: string;
}

export interface LoadOptions {
  /** By key: `{ 'http.port': '9000' }`; undefined means not given. */
  readonly flags?: Readonly<Record<string, unknown>>;
  readonly cwd?: string;
  readonly env?: Environment;
  /** Default /etc/codegod/config.yaml. */
  readonly machineFile?: string;
}

/** Throws CodeGodError `config_invalid` that names every wrong setting and where it stands. */
export function loadConfig(options: LoadOptions = {}): Config {
  const env = options.env ?? process.env;
  const cwd = options.cwd ?? process.cwd();
  const paths = pathsFor(env, cwd);
  const problems: string[] = [];
  const files = projectFiles(cwd);
  const dotEnv = parseEnv(files.dotEnv ?? '') as Environment;
  if (dotEnv['CODEGOD_HOME']) problems.push('CODEGOD_HOME (.env): only the environment sets this');
  const above = [flagLayer(options.flags ?? {}, problems), envLayer('env', env, problems)];
  const yamlFile = join(cwd, 'codegod.yaml');
  const project = guarded(
    [envLayer('.env', dotEnv, problems), fileLayer(yamlFile, files.yaml, problems)],
    () => isTrusted(paths, files),
    problems,
  );
  const untrusted = project.untrusted.filter(({ key }) => !above.some(layer => layer.has(key)));
  const layers = [
    ...above,
    ...project.layers,
    ...settingsFiles(paths, options.machineFile).map(file =>
      fileLayer(file, readText(file), problems),
    ),
  ];
  const origins: Record<string, string> = {};
  const values: Record<string, unknown> = {};
  for (const [key, schema] of LEAVES) {
    const given = layers.map(layer => layer.get(key)).find(value => value !== undefined);
    origins[key] = given?.origin ?? 'default';
    const parsed = schema.safeParse(given?.value);
    if (parsed.success) place(values, key, parsed.data);
    else problems.push(`${key} (${origins[key]}): ${z.prettifyError(parsed.error).slice(2)}`);
  }
  if (problems.length > 0) {
    throw new CodeGodError('config_invalid', problems.join('\n'), {
      hint: '`codegod config show --origin` lists every setting and where it comes from',
      details: { problems },
    });
  }
  return { ...(values as Settings), paths, origins, untrusted };
}

/** Where a machine that serves another's bus keeps whose it is; absent on every other machine. */
export const joinedFile = (paths: Paths): string => join(paths.config, 'joined.yaml');

/** The files that count wherever one stands, the first one winning. */
export const settingsFiles = (
  paths: Paths,
  machineFile = '/etc/codegod/config.yaml',
): readonly string[] => [joinedFile(paths), join(paths.config, 'config.yaml'), machineFile];

interface Given {
  readonly value: unknown;
  readonly origin: string;
}
type Layer = ReadonlyMap<string, Given>;

const LEAVES: ReadonlyMap<string, z.ZodType> = new Map(leavesOf(Settings.shape, ''));

function* leavesOf(shape: z.ZodRawShape, prefix: string): Generator<[string, z.ZodType]> {
  for (const [name, schema] of Object.entries(shape)) {
    if (schema instanceof z.ZodObject) yield* leavesOf(schema.shape, `${prefix}${name}.`);
    else yield [`${prefix}${name}`, schema as z.ZodType];
  }
}

/** All names of a key in the environment, the first one winning. */
export function variablesOf(key: string): readonly string[] {
  return [`CODEGOD_${key.replaceAll('.', '_').toUpperCase()}`, ...(ALIASES[key] ?? [])];
}

const KEY_OF_VARIABLE: ReadonlyMap<string, string> = new Map(
  [...LEAVES.keys()].flatMap(key => variablesOf(key).map(name => [name, key] as const)),
);

/** The settings that the folder one stands in makes; read once, so that it is what is hashed. */
export function projectFiles(cwd: string): ProjectFiles {
  return {
    folder: cwd,
    dotEnv: readText(join(cwd, '.env')),
    yaml: readText(join(cwd, 'codegod.yaml')),
  };
}

/** K3. The layers without what does not count, and that. */
function guarded(
  layers: readonly Layer[],
  isTrusting: () => boolean,
  problems: string[],
): { readonly layers: readonly Layer[]; readonly untrusted: readonly UntrustedSetting[] } {
  const untrusted: UntrustedSetting[] = [];
  for (const layer of layers) {
    for (const [key, { origin }] of layer) {
      const rule = PROJECT_RULES[key] ?? 'never';
      if (rule === 'trusted') untrusted.push({ key, origin });
      if (rule !== 'never') continue;
      problems.push(
        `${key} (${origin}): a project folder may not set this; put it in your own config.yaml`,
      );
    }
  }
  if (untrusted.length === 0 || isTrusting()) return { layers, untrusted: [] };
  const keys = new Set(untrusted.map(({ key }) => key));
  const kept = layers.map(layer => new Map([...layer].filter(([key]) => !keys.has(key))));
  return { layers: kept, untrusted };
}

function flagLayer(flags: Readonly<Record<string, unknown>>, problems: string[]): Layer {
  const layer = new Map<string, Given>();
  for (const [key, value] of Object.entries(flags)) {
    if (!LEAVES.has(key)) problems.push(unknownName(key, 'flag', [...LEAVES.keys()]));
    else if (value !== undefined) layer.set(key, { value, origin: 'flag' });
  }
  return layer;
}

/** K2: other programs' variables are theirs; ours begin with CODEGOD_, and a near miss is a typo. */
function envLayer(source: string, env: Environment, problems: string[]): Layer {
  const layer = new Map<string, Given>();
  for (const key of LEAVES.keys()) {
    // Empty means absent: that is what compose files and CI make of an unset variable.
    const name = variablesOf(key).find(variable => env[variable]);
    if (name) layer.set(key, { value: env[name], origin: `${source} ${name}` });
  }
  const ours = [...KEY_OF_VARIABLE.keys(), 'CODEGOD_HOME'];
  for (const name of Object.keys(env)) {
    if (!name.startsWith('CODEGOD_') || ours.includes(name)) continue;
    if (editDistance(name, nearest(name, ours)) <= TYPO_DISTANCE_MAX) {
      problems.push(unknownName(name, source, ours));
    }
  }
  return layer;
}

const CONFIG_LENGTH_MAX = 1024 * 1024;

function readText(file: string): string | null {
  let content: string;
  try {
    content = readFileSync(file, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ENOTDIR') return null;
    throw new CodeGodError('config_invalid', `${file} cannot be read: ${code}`, { cause: error });
  }
  if (content.length <= CONFIG_LENGTH_MAX) return content;
  throw new CodeGodError('config_invalid', `${file} is larger than 1 MiB`);
}

function fileLayer(file: string, content: string | null, problems: string[]): Layer {
  const layer = new Map<string, Given>();
  if (content === null) return layer;
  let root: unknown;
  try {
    root = parseYaml(content);
  } catch (error) {
    problems.push(`${file}: ${error instanceof Error ? error.message : String(error)}`);
    return layer;
  }
  const sections = new Set([...LEAVES.keys()].flatMap(key => key.split('.').slice(0, -1)));
  const visit = (value: unknown, prefix: string): void => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      problems.push(`${prefix || 'the file'} (${file}): expected a map of settings`);
      return;
    }
    for (const [name, inner] of Object.entries(value)) {
      const key = prefix ? `${prefix}.${name}` : name;
      if (LEAVES.has(key)) layer.set(key, { value: inner ?? undefined, origin: file });
      else if (!prefix && sections.has(name)) visit(inner ?? {}, name);
      else problems.push(unknownName(key, file, [...LEAVES.keys()]));
    }
  };
  visit(root ?? {}, '');
  return layer;
}

function place(values: Record<string, unknown>, key: string, value: unknown): void {
  const names = key.split('.');
  const last = names.pop() ?? key;
  let section = values;
  for (const name of names) {
    section[name] ??= {};
    section = section[name] as Record<string, unknown>;
  }
  if (value !== undefined) section[last] = value;
}

const TYPO_DISTANCE_MAX = 2;

function unknownName(name: string, origin: string, known: readonly string[]): string {
  return `${name} (${origin}): there is no such setting; the nearest is ${nearest(name, known)}`;
}

function nearest(name: string, known: readonly string[]): string {
  let best = '';
  for (const candidate of known) {
    if (!best || editDistance(name, candidate) < editDistance(name, best)) best = candidate;
  }
  return best;
}

export interface SettingRow {
  readonly key: string;
  /** Masked where it is a secret; null where there is none. */
  readonly value: unknown;
  readonly origin: string;
  readonly variables: readonly string[];
  readonly description: string;
}

/** Every setting as `codegod config show` prints it. */
export function settingRows(config: Config): SettingRow[] {
  return [...LEAVES].map(([key, schema]) => {
    const meta = schema.meta() ?? {};
    const value = valueAt(config, key);
    return {
      key,
      value: value !== undefined && meta.secret === true ? '********' : (value ?? null),
      origin: config.origins[key] ?? 'default',
      variables: variablesOf(key),
      description: meta.description ?? '',
    };
  });
}

function valueAt(config: Config, key: string): unknown {
  let value: unknown = config;
  for (const name of key.split('.')) value = (value as Record<string, unknown> | undefined)?.[name];
  return value;
}

/**
 * The environment for a process of ours: the present one, plus whatever flags and files said, so
 * that it comes to the same configuration wherever it is started. Secrets travel here, never in
 * arguments, which other users can see.
 */
export function childEnvironment(config: Config, env: Environment = process.env): Environment {
  const result: Record<string, string | undefined> = { ...env };
  for (const key of LEAVES.keys()) {
    const value = valueAt(config, key);
    const { [key]: origin = 'default' } = config.origins;
    if (origin === 'default' || value === undefined) continue;
    // Left to the file, which the process reads again when it changes (live-aliases.ts).
    if (key === 'models.aliases' && settingsFiles(config.paths).includes(origin)) continue;
    const [name = key] = variablesOf(key);
    result[name] = typeof value === 'object' ? JSON.stringify(value) : String(value);
  }
  if (env['CODEGOD_HOME']) result['CODEGOD_HOME'] = join(config.paths.config, '..');
  return result;
}

/** The variables of each setting that may hold a secret, by its key. */
export function secretVariables(): ReadonlyMap<string, readonly string[]> {
  const keys = [...LEAVES].filter(([key, schema]) => {
    // The variables of a tool server of the user's are often its keys.
    return schema.meta()?.secret === true || key === 'mcp.servers';
  });
  return new Map(keys.map(([key]) => [key, variablesOf(key)]));
}

/** The variables of these names that are set; for foreign programs, which need no more. */
export function envFor(
  names: readonly string[],
  env: Environment = process.env,
): Record<string, string> {
  const result: Record<string, string> = {};
  for (const name of names) {
    const value = env[name];
    if (value !== undefined) result[name] = value;
  }
  return result;
}

/** The whole environment, for programs that act in the user's name: installers, git. */
export function wholeEnvironment(): Environment {
  return { ...process.env };
}

/** Whether a person reads this stream on a screen and nothing asks for plain output. */
export function isInteractive(
  stream: { readonly isTTY?: boolean },
  env: Environment = process.env,
): boolean {
  return stream.isTTY === true && env['TERM'] !== 'dumb' && !env['CI'];
}

/** NO_COLOR and FORCE_COLOR as their conventions say; else colour where a person reads. */
export function wantsColor(
  stream: { readonly isTTY?: boolean },
  env: Environment = process.env,
): boolean {
  if (env['NO_COLOR']) return false;
  if (env['FORCE_COLOR']) return env['FORCE_COLOR'] !== '0';
  return stream.isTTY === true && env['TERM'] !== 'dumb';
}
