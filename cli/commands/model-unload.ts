/** `models unload`: gives the memory of a model back now. */

import { NodeId } from '../../protocol/ids.ts';
import type { UnloadRequest } from '../../protocol/inference.ts';
import { Acknowledgement } from '../../protocol/node.ts';
import { nodeSubject } from '../../protocol/subjects.ts';
import { withBus } from '../bus-session.ts';
import type { CommandContext } from '../context.ts';
import { EXIT, toFailure } from '../exit-code.ts';
import { copiesOf, isLoaded, nodesNamed, readNodes } from '../pool-view.ts';

const UNLOAD_MS = 60_000;

/** Exit code 1 where a copy stayed. */
export async function unload(
  context: CommandContext,
  model: string,
  options: { readonly nodes?: readonly string[]; readonly force: boolean },
): Promise<number> {
  const { terminal } = context;
  const nodes = await readNodes(context);
  const wanted = options.nodes === undefined ? nodes : nodesNamed(nodes, options.nodes);
  const names = new Set(wanted.map(({ node }) => node));
  const copies = copiesOf(nodes, model).filter(
    copy => isLoaded(copy.model) && names.has(copy.node),
  );
  const results = await withBus(await context.config(), async ({ messenger }) => {
    const ask = async (copy: (typeof copies)[number]) => {
      const request: UnloadRequest = { model: copy.model.name, force: options.force };
      const subject = nodeSubject(NodeId.parse(copy.node), 'unload');
      try {
        await messenger.ask(subject, request, Acknowledgement, { timeout_ms: UNLOAD_MS });
        return { node: copy.node, model: copy.model.name, unloaded: true, error: null };
      } catch (error) {
        const failure = toFailure(error);
        return { node: copy.node, model: copy.model.name, unloaded: false, error: failure };
      }
    };
    return await Promise.all(copies.map(ask));
  });
  terminal.result(results, () =>
    results.length === 0
      ? `${model} is not loaded`
      : results
          .map(one => `${one.node}: ${one.model} ${one.error?.message ?? 'is unloaded'}`)
          .join('\n'),
  );
  return results.every(({ unloaded }) => unloaded) ? EXIT.ok : EXIT.failed;
}
