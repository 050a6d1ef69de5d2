/** What every command gets: where to write, the global flags, and the configuration on demand. */
import type { Config } from '../runtime/config.ts';
import type { Terminal } from './terminal.ts';

export interface CommandContext {
  readonly terminal: Terminal;
  /** Settings given as flags, by key. */
  readonly flags: Readonly<Record<string, unknown>>;
  /** @throws CodeGodError `config_invalid` */
  config(): Promise<Config>;
}

export function createContext(
  terminal: Terminal,
  flags: Readonly<Record<string, unknown>>,
): CommandContext {
  let loaded: Config | null = null;
  return {
    terminal,
    flags,
    async config() {
      if (loaded === null) {
        const { loadConfig } = await import('../runtime/config.ts');
        loaded = loadConfig({ flags });
      }
      return loaded;
    },
  };
}
