/** `place`: asks the master where a request would run now; without `--dry-run` loads the model there. */
import type { LoadRequest } from '../../protocol/inference.ts';
import { Acknowledgement, PlacementDecision } from '../../protocol/node.ts';
import { nodeSubject } from '../../protocol/subjects.ts';
import { withBus } from '../bus-session.ts';
import type { CommandContext } from '../context.ts';
import { EXIT } from '../exit-code.ts';
import { postToMaster } from '../master-client.ts';
import { renderDecision } from './explain.ts';

/** A cold load of a large model from a slow disk. */
const LOAD_MS = 900_000;

export interface PlaceOptions {
  readonly model: string;
  readonly ctx: number;
  readonly selector?: Readonly<Record<string, string>>;
  readonly nodes?: readonly string[];
  readonly dryRun: boolean;
}

/** Exit code 1 where it fits nowhere. */
export async function place(context: CommandContext, options: PlaceOptions): Promise<number> {
  const config = await context.config();
  const { selector, nodes } = options;
  const answer = await postToMaster(config, '/place', {
    model: options.model,
    context_tokens: options.ctx,
    ...(selector === undefined ? {} : { selector }),
    ...(nodes === undefined ? {} : { nodes }),
  });
  const decision = PlacementDecision.parse(answer);
  context.terminal.result(decision, () => renderDecision(decision));
  const { chosen } = decision;
  if (chosen === null) return EXIT.failed;
  if (options.dryRun || chosen.engine === 'scaffold') return EXIT.ok;
  const request: LoadRequest = { model: chosen.model, context_tokens: options.ctx };
  context.terminal.note(`loading ${chosen.model} on ${chosen.node}`);
  await withBus(config, async ({ messenger }) => {
    const subject = nodeSubject(chosen.node, 'load');
    await messenger.ask(subject, request, Acknowledgement, { timeout_ms: LOAD_MS });
  });
  context.terminal.note(`${chosen.model} is loaded on ${chosen.node}`);
  return EXIT.ok;
}
