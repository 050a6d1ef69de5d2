/** What engines told of models, kept in the journal by digest: it goes when the models have gone. */
import type { EngineAdvert } from '../../protocol/node.ts';
import type { Journal } from '../../runtime/journal.ts';
import { WORKER_KEYS } from '../../runtime/journal-keys.ts';

/** An engine that does not answer has not lost its models. What goes too early is asked for again. */
export async function forgetModels(
  journal: Pick<Journal, 'keys' | 'batch'>,
  engines: readonly EngineAdvert[],
): Promise<void> {
  if (engines.some(({ available }) => !available)) return;
  const installed = new Set(engines.flatMap(({ models }) => models.map(({ digest }) => digest)));
  for (const prefix of [WORKER_KEYS.models, WORKER_KEYS.probes]) {
    for await (const key of journal.keys(prefix)) {
      const [digest = ''] = key.slice(prefix.length).split('/', 1);
      if (!installed.has(digest)) await journal.batch([{ type: 'del', key }]);
    }
  }
}
