/**
 * What the user's pip.conf and uv.toml say about where packages are found. Everything else in them
 * (`user`, `target`, `prefix` …) is about other installations than ours.
 */
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { Environment } from './paths.ts';
import { readIfThere } from './read-if-there.ts';

const FINDING = new Set([
  ...['index-url', 'extra-index-url', 'find-links', 'no-index', 'trusted-host'],
  ...['cert', 'client-cert', 'proxy', 'timeout', 'retries', 'keyring-provider', 'cache-dir'],
]);

/** As variables of pip, the user's own variables winning. pip itself then reads no file. */
export function pipVariables(env: Environment): Record<string, string> {
  const result: Record<string, string> = {};
  for (const file of pipFiles(env)) Object.assign(result, parsePipFile(readIfThere(file) ?? ''));
  for (const [name, value] of Object.entries(env)) {
    if (value !== undefined && name.startsWith('PIP_') && FINDING.has(keyOf(name.slice(4)))) {
      result[name] = value;
    }
  }
  return { ...result, PIP_CONFIG_FILE: process.platform === 'win32' ? 'nul' : '/dev/null' };
}

/** The least important first, as pip itself goes through them. */
function pipFiles(env: Environment): string[] {
  const home = env['HOME'] || homedir();
  const own = env['PIP_CONFIG_FILE'];
  if (process.platform === 'win32') {
    const folders = [env['PROGRAMDATA'] ?? '', join(home, 'pip'), env['APPDATA'] ?? ''];
    return [...folders.map(folder => join(folder, 'pip', 'pip.ini')), ...(own ? [own] : [])];
  }
  const config = env['XDG_CONFIG_HOME'] || join(home, '.config');
  const library = join('Library', 'Application Support', 'pip', 'pip.conf');
  return [
    ...(process.platform === 'darwin' ? [join('/', library)] : []),
    ...['/etc/xdg/pip/pip.conf', '/etc/pip.conf', join(home, '.pip', 'pip.conf')],
    ...(process.platform === 'darwin' ? [join(home, library)] : []),
    join(config, 'pip', 'pip.conf'),
    ...(own ? [own] : []),
  ];
}

const keyOf = (name: string): string => name.toLowerCase().replaceAll('_', '-');

/** Of `[global]` and `[install]`, the latter winning; a value may go on in indented lines. */
function parsePipFile(text: string): Record<string, string> {
  const sections: Record<string, Map<string, string>> = { global: new Map(), install: new Map() };
  let section: Map<string, string> | undefined;
  let key = '';
  for (const line of text.split(/\r?\n/)) {
    const head = /^\[([^\]]+)\]/.exec(line);
    const pair = /^([A-Za-z][\w-]*)\s*[=:]\s*(.*)$/.exec(line);
    if (/^\s*[#;]/.test(line)) continue;
    if (head !== null) section = sections[head[1]?.trim() ?? ''];
    else if (pair !== null) {
      key = keyOf(pair[1] ?? '');
      section?.set(key, pair[2]?.trim() ?? '');
    } else if (/^\s+\S/.test(line)) {
      section?.set(key, `${section.get(key) ?? ''} ${line.trim()}`.trim());
    }
  }
  const settings = [...(sections['global'] ?? []), ...(sections['install'] ?? [])];
  return Object.fromEntries(
    settings
      .filter(([name, value]) => FINDING.has(name) && value !== '')
      .map(([name, value]) => [`PIP_${name.replaceAll('-', '_').toUpperCase()}`, value]),
  );
}

/**
 * Whether uv has to read its own configuration: where that says how packages are found. What else it
 * says is seen afterwards, by what is in the environment and what is not.
 */
export function uvFindsByFile(env: Environment): boolean {
  const config = env['XDG_CONFIG_HOME'] || join(env['HOME'] || homedir(), '.config');
  const files = [join(config, 'uv', 'uv.toml'), '/etc/uv/uv.toml', env['UV_CONFIG_FILE'] ?? ''];
  return files
    .filter(file => file !== '' && existsSync(file))
    .some(file =>
      /^[ \t]*(\[\[index\]\]|(extra-)?index(-url)?\s*=|find-links|native-tls|system-certs|allow-insecure-host)/m.test(
        readIfThere(file) ?? '',
      ),
    );
}
