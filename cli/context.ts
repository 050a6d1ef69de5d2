/** What every command gets: where to write, the global flags, and the configuration on demand. */
import type { Config } from '../runtime/config.ts';
import type { Environment } from '../runtime/paths.ts';
import type { ActorsOf } from './supervisor/system.ts';
import type { Terminal } from './terminal.ts';

export interface CommandContext {
  readonly terminal: Terminal;
  /** Settings given as flags, by key. */
  readonly flags: Readonly<Record<string, unknown>>;
  /** What a system runs; undefined: the four actors. */
  readonly actors: ActorsOf | undefined;
  /** @throws CodeGodError `config_invalid` */
  config(): Promise<Config>;
  /** The same, read again: after a command has changed it. */
  reloadConfig(): Promise<Config>;
}

export function createContext(
  terminal: Terminal,
  flags: Readonly<Record<string, unknown>>,
  world: { readonly actors?: ActorsOf; readonly env?: Environment },
): CommandContext {
  let loaded: Config | null = null;
  let isWarned = false;
  const load = async (): Promise<Config> => {
    const { loadConfig } = await import('../runtime/config.ts');
    loaded = loadConfig({ flags, ...(world.env ? { env: world.env } : {}) });
    if (loaded.untrusted.length > 0 && !isWarned) terminal.note(untrustedNote(loaded.untrusted));
    isWarned = true;
    return loaded;
  };
  return {
    terminal,
    flags,
    actors: world.actors,
    config: async () => loaded ?? (await load()),
    reloadConfig: load,
  };
}

/** One sentence for all of them. */
function untrustedNote(settings: Config['untrusted']): string {
  const named = settings.map(({ key, origin }) => `${key} (${origin})`).join(', ');
  return `this folder sets ${named}: that would send secrets or work elsewhere and does not count here; \`codegod config trust\` in this folder lets it`;
}
