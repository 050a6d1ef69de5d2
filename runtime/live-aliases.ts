/**
 * Further names of models, as the settings files say now: a name is added while everything runs.
 *
 * L1  What cannot be read changes nothing, and is said once per change of a file.
 * L2  Names given by a flag, the environment or a project folder hold until the next start.
 */
import { statSync } from 'node:fs';
import { toWireError } from '../protocol/errors.ts';
import type { Clock } from './clock.ts';
import { type Config, loadConfig, settingsFiles } from './config.ts';
import type { Logger } from './log.ts';

export type Aliases = Config['models']['aliases'];

export interface LiveAliases {
  /** The same object as long as nothing has changed. */
  readonly now: () => Aliases;
  readonly stop: () => void;
}

const LOOK_EVERY_MS = 2_000;

export function followAliases(options: {
  readonly config: Pick<Config, 'models' | 'paths'>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly read?: () => Pick<Config, 'models'>;
}): LiveAliases {
  const { config, clock, log, read = loadConfig } = options;
  const files = settingsFiles(config.paths);
  let { aliases } = config.models;
  // Read once in any case: a file may have changed since this process read its settings.
  let seen: string | null = null;
  const look = (): void => {
    const stamp = files.map(stampOf).join('\n');
    if (stamp === seen) return;
    seen = stamp;
    try {
      const fresh = read().models.aliases;
      if (JSON.stringify(fresh) === JSON.stringify(aliases)) return;
      aliases = fresh;
      log.info('config.aliases_read', { names: Object.keys(fresh).length });
    } catch (error) {
      log.warn('config.not_read_again', { error: toWireError(error) }); // L1
    }
  };
  let timer = clock.setTimeout(again, LOOK_EVERY_MS);
  function again(): void {
    look();
    timer = clock.setTimeout(again, LOOK_EVERY_MS);
  }
  return { now: () => aliases, stop: () => clock.clearTimeout(timer) };
}

/** Another one whenever the file was written or replaced. */
function stampOf(file: string): string {
  const found = statSync(file, { throwIfNoEntry: false });
  return found === undefined ? '-' : `${found.ino} ${found.size} ${found.mtimeMs}`;
}
