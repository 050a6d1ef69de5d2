/**
 * `config show`: every setting, its value (secrets masked) and, with `--origin`, whence it came.
 * `config trust`: lets the folder one stands in make the settings that send secrets or work elsewhere,
 * for as long as its files stay as they are.
 */
import { projectFiles, settingRows } from '../../runtime/config.ts';
import { distrust, trust } from '../../runtime/project-trust.ts';
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

export async function trustProject(
  context: CommandContext,
  options: { readonly remove: boolean },
): Promise<number> {
  const { paths, untrusted } = await context.config();
  const files = projectFiles(process.cwd());
  const settings = options.remove ? [] : untrusted.map(({ key }) => key);
  if (options.remove) distrust(paths, files.folder);
  else trust(paths, files);
  context.terminal.result({ folder: files.folder, trusted: !options.remove, settings }, () =>
    options.remove
      ? `${files.folder} is no longer trusted`
      : `${files.folder} is trusted until its .env or codegod.yaml changes`,
  );
  return EXIT.ok;
}
