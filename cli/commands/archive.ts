/** `archive`: a finished project as one tar.gz. */
import { renameSync, rmSync } from 'node:fs';
import { resolve } from 'node:path';
import type { BuildSummary } from '../../protocol/build.ts';
import { withBus } from '../bus-session.ts';
import type { CommandContext } from '../context.ts';
import { CliError, EXIT } from '../exit-code.ts';
import { getFromMaster } from '../master-client.ts';
import { download } from '../project-out.ts';
import { resolveBuild } from './read.ts';

export async function archive(
  context: CommandContext,
  text: string,
  options: { readonly out?: string },
): Promise<number> {
  const config = await context.config();
  const id = await resolveBuild(context, text);
  const summary = (await getFromMaster(config, `/builds/${id}`)) as BuildSummary;
  const reference = summary.archive;
  if (reference === null) {
    throw new CliError('conflict', `${summary.id} has no archive: it is ${summary.state}`);
  }
  const file = resolve(options.out ?? `${summary.name ?? summary.id}.tar.gz`);
  const draft = `${file}.part`;
  try {
    await withBus(config, ({ bus }) => download(bus, reference, draft));
    renameSync(draft, file);
  } finally {
    rmSync(draft, { force: true });
  }
  const result = { id: summary.id, file, size: reference.size, sha256: reference.sha256 };
  context.terminal.result(result, () => file);
  return EXIT.ok;
}
