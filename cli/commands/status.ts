/** `status`: what runs here, from the supervisor's note. Touches no network. */
import { existsSync, statfsSync } from 'node:fs';
import { systemClock } from '../../runtime/clock.ts';
import type { Paths } from '../../runtime/paths.ts';
import type { CommandContext } from '../context.ts';
import { EXIT } from '../exit-code.ts';
import { duration } from '../pool-view.ts';
import { NOT_RUNNING, type StatusView, statusOf } from '../status-view.ts';
import { runningSystem } from '../supervisor/system-record.ts';
import { table } from '../terminal.ts';

/** Less than this and nothing useful can be written. */
const ROOM_BYTES = 1024 * 1024;

/** Exit code 3 where nothing runs. */
export async function status(context: CommandContext): Promise<number> {
  const config = await context.config();
  const record = runningSystem(config.paths.state);
  const view = record === null ? NOT_RUNNING : statusOf(record);
  context.terminal.result(view, () => render(view, systemClock.now()));
  for (const folder of fullDisks(config.paths)) {
    context.terminal.note(`the disk of ${folder} is full: what is told here may be old`);
  }
  if (!view.running) context.terminal.note('start it with `codegod up -d`');
  return view.running ? EXIT.ok : EXIT.unreachable;
}

/** The supervisor cannot note anything there. */
function fullDisks({ state, data }: Paths): string[] {
  return [state, data].filter(folder => {
    if (!existsSync(folder)) return false;
    const { bavail, bsize } = statfsSync(folder);
    return bavail * bsize < ROOM_BYTES;
  });
}

function render(view: StatusView, now: number): string {
  if (!view.running) return 'nothing runs here';
  const row = (one: StatusView['actors'][number]): string[] => [
    one.name,
    String(one.pid ?? '-'),
    one.state,
    String(one.restarts),
    one.since === null ? '-' : duration(now - one.since),
    one.state === 'ready' ? '' : (one.reason ?? ''),
  ];
  return [
    `${view.state} (${view.mode}, supervisor ${view.supervisor_pid})`,
    `bus   ${view.bus.url ?? '-'}`,
    `http  ${view.http.url ?? '-'}`,
    '',
    table([
      ['NAME', 'PID', 'STATE', 'RESTARTS', 'SINCE', ''],
      row({ ...view.bus, name: 'bus' }),
      ...view.actors.map(row),
    ]),
  ].join('\n');
}
