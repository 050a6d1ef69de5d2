/** `config show`: every setting, its value (secrets masked) and, with `--origin`, whence it came. */
import { settingRows } from '../../runtime/config.ts';
import type { CommandContext } from '../context.ts';
import { EXIT } from '../exit-code.ts';
import { table } from '../terminal.ts';

export async function showConfig(
  context: CommandContext,
  options: { readonly origin: boolean },
): Promise<number> {
  const config = await context.config();
  const rows = settingRows(config);
  const value = { paths: config.paths, settings: rows };
  context.terminal.result(value, () =>
    [
      table(
        rows.map(row => [
          row.key,
          row.value === null ? '-' : JSON.stringify(row.value),
          ...(options.origin ? [row.origin, row.variables.join(' ')] : [row.description]),
        ]),
      ),
      '',
      table(Object.entries(config.paths).map(([name, path]) => [`${name} folder`, path])),
    ].join('\n'),
  );
  return EXIT.ok;
}
