/**
 * Whether a text can be the file that it is about to become. Where a block or a string is taken for
 * a file because nothing else is left to take, this asks what it really is.
 *
 * B1: a tool call or an envelope is never the text of a file that holds something else, however it
 *     was wrapped and whatever path stood above it.
 * B2: only what is certain refuses: an unknown language fits every file.
 */
import { isRecord } from './answer.ts';
import { type KnowsTool, loneCalls, loneFiles, type RawCall } from './call-shapes.ts';
import { asEnvelope, type Envelope } from './envelope.ts';
import { pythonCallAt } from './python-calls.ts';
import { xmlCallAt } from './text-calls.ts';
import { parseTolerant } from './tolerant-json.ts';

const JSON_FILE =
  /\.(?:json|jsonc|json5|jsonl|ndjson|geojson|topojson|webmanifest|map|ipynb|avsc|har|lock|arb|[a-z]+rc)$/i;
const MAY_HOLD_JSON = /\.(?:ya?ml|txt|md|mdx|snap|http|rest|tmpl|tpl|j2|dat|log|csv)$|^[^.]+$/i;

const nameOf = (path: string): string => path.split('/').at(-1) ?? '';

/** An envelope for what a JSON text asks to be done, or null where it is data. */
export function workIn(value: unknown, knows: KnowsTool): Envelope | null {
  const calls = loneCalls(value, knows);
  if (calls !== null) return asEnvelope({ success: true, tool_calls: calls });
  const envelope = asEnvelope(value);
  if (envelope !== null) return envelope;
  const files = loneFiles(value);
  if (files === null) return null;
  return asEnvelope({
    success: true,
    files: files.map(({ path, text }) => ({ path, content: text })),
  });
}

/** What the text of a file is instead, as the end of a sentence, or null where it may be the file. */
export function unfitFor(path: string, text: string, knows: KnowsTool): string | null {
  const start = text.slice(0, 400).trimStart();
  if (/^[{[]/.test(start)) return unfitJson(path, text, knows);
  if (/^(?:<\|python_tag\|>|\[TOOL_CALLS\]|<｜tool|<\|tool)/.test(start)) return NOT_A_FILE;
  if (xmlCallAt(start) === 0) return NOT_A_FILE;
  return pythonCallAt(start, knows) === 0 && !/\.pyi?$/.test(path) ? NOT_A_FILE : null;
}

export const NOT_A_FILE = 'is a tool call, not the text of the file';

function unfitJson(path: string, text: string, knows: KnowsTool): string | null {
  const parsed = parseTolerant(text, { repair: false });
  if (!parsed.ok) return pythonCallAt(text.trimStart(), knows) === 0 ? NOT_A_FILE : null;
  const work = workIn(parsed.value, knows);
  const name = nameOf(path);
  if (JSON_FILE.test(name)) return work !== null && writes(work, path) ? NOT_A_FILE : null;
  if (work !== null) return NOT_A_FILE;
  if (MAY_HOLD_JSON.test(name) || !isRecord(parsed.value)) return null;
  return 'is JSON, not the text of the file';
}

/** Whether the work is to write that very file: a file of the project does not hold its own call. */
function writes(work: Envelope, path: string): boolean {
  const isPath = (call: RawCall): boolean =>
    Object.values(call.arguments).some(value => value === path || value === `./${path}`);
  return work.calls.some(isPath) || work.files.some(file => file.path === path);
}

const SHELL = /^(?:sh|bash|shell|zsh|console|shell-session|terminal|powershell|ps1|bat|cmd)$/;
/** Languages of fences that are written into the same files. */
const FAMILIES: readonly (readonly [RegExp, RegExp])[] = [
  [
    /^(?:js|javascript|jsx|mjs|cjs|node|ts|typescript|tsx|mts|cts)$/,
    /\.(?:[mc]?[jt]sx?|vue|svelte|astro)$/i,
  ],
  [/^(?:py|python|python3|py3)$/, /\.pyi?$/i],
  [/^(?:jsonc?|json5)$/, JSON_FILE],
  [/^ya?ml$/, /\.ya?ml$/i],
  [/^toml$/, /\.toml$|\.lock$/i],
  [
    /^(?:html?|xml|svg|vue|svelte|jinja2?|ejs|handlebars|hbs)$/,
    /\.(?:x?html?|xml|svg|vue|svelte|jinja2?|j2|ejs|hbs|njk|xsd|plist)$/i,
  ],
  [/^(?:s?css|sass|less)$/, /\.(?:s?css|sass|less|vue|svelte)$/i],
  [SHELL, /\.(?:sh|bash|zsh|ps1|bat|cmd|command|env|envrc)$/i],
  [/^(?:md|markdown|mdx)$/, /\.(?:md|mdx|markdown)$/i],
  [/^(?:go|golang)$/, /\.go$/i],
  [/^(?:rs|rust)$/, /\.rs$/i],
  [/^java$/, /\.java$/i],
  [/^(?:kt|kotlin)$/, /\.kts?$/i],
  [/^(?:cs|csharp|c#)$/, /\.cs$/i],
  [/^(?:c|h|cpp|c\+\+|cc|hpp|cxx)$/, /\.(?:c|h|cc|cpp|cxx|hh|hpp|hxx|ino)$/i],
  [/^(?:rb|ruby)$/, /\.(?:rb|rake|gemspec|ru)$/i],
  [/^php$/, /\.php$/i],
  [/^(?:sql|postgresql|sqlite|mysql)$/, /\.(?:sql|ddl|psql)$/i],
  [/^(?:diff|patch)$/, /\.(?:diff|patch)$/i],
  [
    /^(?:text|txt|plain|plaintext|output|log)$/,
    /\.(?:txt|md|log|csv|tsv|env|ini|cfg|conf|in|gitignore|dockerignore)$/i,
  ],
];
const CALL_FENCE = /^(?:tool[_-]?(?:calls?|code|use)?|function[_-]?calls?|mcp|action)$/;

/** Why a block of this language, with no path of its own, cannot be the file; null where it can. */
export function unfitBlock(
  path: string,
  block: { readonly info: string; readonly text: string },
  knows: KnowsTool,
): string | null {
  const language = (/^[\w+#-]{1,24}/.exec(block.info)?.[0] ?? '').toLowerCase();
  if (CALL_FENCE.test(language)) return NOT_A_FILE;
  const name = nameOf(path);
  const family = FAMILIES.find(([tag]) => tag.test(language));
  const fits = family === undefined || family[1].test(name);
  const known = FAMILIES.some(([, file]) => file.test(name));
  // Commands and their output stand in answers far more often than in files without an extension.
  const aside = SHELL.test(language) && !block.text.startsWith('#!');
  if (!fits && (known || aside)) return `is ${language}, which ${path} does not hold`;
  return unfitFor(path, block.text, knows);
}
