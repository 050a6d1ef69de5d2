/** Who may import whom: the doors between rooms, and the one owner of every outside thing. */
import type { Breach, SourceFile, Tree } from './tree.ts';

const ACTORS = ['master', 'worker', 'mcp-gateway', 'resource-monitor'];

/** Rooms a file may import from, by the room it stands in. What is not listed is a wall. */
const DOORS: readonly { readonly room: string; readonly may: readonly string[] }[] = [
  { room: 'protocol/', may: ['protocol/'] },
  { room: 'scheduling/', may: ['scheduling/', 'protocol/'] },
  { room: 'runtime/', may: ['runtime/', 'protocol/'] },
  ...ACTORS.map(actor => ({
    room: `actors/${actor}/`,
    may: [`actors/${actor}/`, 'protocol/', 'scheduling/', 'runtime/'],
  })),
  { room: 'cli/', may: ['cli/', 'protocol/', 'runtime/', 'scheduling/'] },
  { room: 'dashboard/', may: ['dashboard/', 'protocol/'] },
];

/** Packages that a room with few of them may use. */
const PACKAGES: readonly { readonly room: string; readonly may: RegExp }[] = [
  { room: 'protocol/', may: /^(zod|msgpackr)$/ },
  { room: 'scheduling/', may: /^$/ },
];

/** The only files that may import an outside thing. */
const OWNERS: readonly { readonly thing: RegExp; readonly owner: RegExp }[] = [
  { thing: /^@nats-io\//, owner: /^runtime\/(nats-|bus-)/ },
  { thing: /^(node:)?child_process$|^execa$/, owner: /^runtime\/spawn\.ts$/ },
  { thing: /^level$/, owner: /^runtime\/journal\.ts$/ },
  { thing: /^(ollama|@anthropic-ai\/.*|openai)$/, owner: /^actors\/worker\/engines\// },
  { thing: /^@modelcontextprotocol\//, owner: /^actors\/mcp-gateway\// },
  { thing: /^systeminformation$/, owner: /^actors\/resource-monitor\/probes\// },
  { thing: /^(hono|@hono\/.*)$/, owner: /^actors\/master\/http\// },
  { thing: /^pino$/, owner: /^runtime\/log\.ts$/ },
  { thing: /^prom-client$/, owner: /^runtime\/metrics\.ts$/ },
  { thing: /^commander$/, owner: /^cli\// },
  { thing: /^log-update$/, owner: /^cli\/terminal\.ts$/ },
];

/** Words that only their owner may use, outside of tests. */
const WORDS: readonly { readonly word: RegExp; readonly owner: RegExp; readonly use: string }[] = [
  {
    word: /\bprocess\.env\b/,
    // The second are templates: text of generated projects, not code of ours.
    owner: /^(runtime\/config|actors\/worker\/engines\/scaffold\/project\/)/,
    use: 'runtime/config.ts',
  },
  {
    word: /\bDate\.now\(|\bnew Date\(\)/,
    owner: /^runtime\/clock\.ts$/,
    use: 'the injected Clock',
  },
  {
    word: /\bMath\.random\(|\bperformance\.now\(/,
    owner: /^runtime\/clock\.ts$/,
    use: 'the injected Clock',
  },
  {
    word: /\bprocess\.std(out|err)\b|\bconsole\./,
    // Text of others is cleaned there. The entry listens to the streams' errors.
    owner: /^(cli\/(terminal|main)\.ts|actors\/worker\/engines\/scaffold\/project\/)/,
    use: 'the Terminal of the command',
  },
];

export const isTest = (path: string): boolean =>
  /\.test\.ts$|(^|\/)(test|test-[a-z-]+|fixtures|[a-z-]+-suite)(\/|\.ts$)|^bench\//.test(path);

export function checkDoors(tree: Tree): Breach[] {
  return tree.flatMap(file => (isTest(file.path) ? [] : [...walls(file), ...owners(file)]));
}

function walls(file: SourceFile): Breach[] {
  const door = DOORS.find(({ room }) => file.path.startsWith(room));
  const packages = PACKAGES.find(({ room }) => file.path.startsWith(room));
  return file.imports.flatMap(({ relative, target, specifier, line }) => {
    if (relative) {
      const open = door === undefined || door.may.some(room => target.startsWith(room));
      return open ? [] : [breach(file, line, `${door.room} may not import ${target}`)];
    }
    const open = packages === undefined || packages.may.test(target);
    return open ? [] : [breach(file, line, `${packages.room} may not use ${specifier}`)];
  });
}

function owners(file: SourceFile): Breach[] {
  const imports = file.imports.flatMap(({ target, line }) =>
    OWNERS.filter(({ thing, owner }) => thing.test(target) && !owner.test(file.path)).map(
      ({ owner }) => breach(file, line, `${target} belongs to ${owner.source}`),
    ),
  );
  const words = file.code
    .split('\n')
    .flatMap((text, index) =>
      WORDS.filter(({ word, owner }) => word.test(text) && !owner.test(file.path)).map(
        ({ word, use }) => breach(file, index + 1, `${word.source}: use ${use}`),
      ),
    );
  return [...imports, ...words];
}

/**
 * Machines and pure files decide; they do not touch the world. A file is pure where it says
 * `machine` in its name, or stands in a room that is pure as a whole.
 */
export function checkPurity(tree: Tree): Breach[] {
  return tree
    .filter(({ path }) => !isTest(path) && isPure(path))
    .flatMap(file => [
      ...file.imports
        .filter(({ target }) => target.startsWith('node:') || target.includes('/adapters/'))
        .map(({ line, target }) => breach(file, line, `a pure file may not import ${target}`)),
      ...file.code
        .split('\n')
        .flatMap((text, index) =>
          /\b(console\.|setTimeout\(|setInterval\()/.test(text)
            ? [breach(file, index + 1, 'a pure file has no console and no timer')]
            : [],
        ),
    ]);
}

function isPure(path: string): boolean {
  return (
    path.startsWith('protocol/') ||
    path.startsWith('scheduling/') ||
    (path.startsWith('actors/') && /(^|[/-])machine\.ts$/.test(path))
  );
}

function breach(file: SourceFile, line: number, message: string): Breach {
  return { path: file.path, line, message };
}
