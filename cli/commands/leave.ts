/** `leave`: stops the node that this machine is, and forgets the bus it joined. Twice is no error. */
import type { CommandContext } from '../context.ts';
import { EXIT } from '../exit-code.ts';
import { runningSystem } from '../supervisor/system-record.ts';
import { stopSystem } from './down.ts';
import { forget } from './join.ts';

export async function leave(context: CommandContext): Promise<number> {
  const { terminal } = context;
  const { bus, paths } = await context.config();
  const { url = null, joined } = bus;
  if (joined && runningSystem(paths.state) !== null) await stopSystem(paths.state);
  forget(paths);
  terminal.result({ left: joined ? url : null }, () =>
    joined ? `left ${url}; its token counts until it is revoked there` : 'not joined to any bus',
  );
  return EXIT.ok;
}
