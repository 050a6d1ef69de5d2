/** `status`: what runs here, from the supervisor's note. Touches no network. */
import type { CommandContext } from '../context.ts';
import { EXIT } from '../exit-code.ts';
import { NOT_RUNNING, type StatusView, statusOf } from '../status-view.ts';
import { runningSystem } from '../supervisor/system-record.ts';
import { table } from '../terminal.ts';

/** Exit code 3 where nothing runs. */
export async function status(context: CommandContext): Promise<number> {
  const config = await context.config();
  const record = runningSystem(config.paths.state);
  const view = record === null ? NOT_RUNNING : statusOf(record);
  context.terminal.result(view, () => render(view));
  if (!view.running) context.terminal.note('start it with `codegod up -d`');
  return view.running ? EXIT.ok : EXIT.unreachable;
}

function render(view: StatusView): string {
  if (!view.running) return 'nothing runs here';
  const row = (one: StatusView['actors'][number]): string[] => [
    one.name,
    String(one.pid ?? '-'),
    one.state,
    String(one.restarts),
    one.state === 'ready' ? '' : (one.reason ?? ''),
  ];
  return [
    `${view.state} (${view.mode}, supervisor ${view.supervisor_pid})`,
    `bus   ${view.bus.url ?? '-'}`,
    `http  ${view.http.url ?? '-'}`,
    '',
    table([
      ['NAME', 'PID', 'STATE', 'RESTARTS', ''],
      row({ ...view.bus, name: 'bus' }),
      ...view.actors.map(row),
    ]),
  ].join('\n');
}
