/** `drain`: takes a machine out of service without cutting anything off, and back again. */

import { NodeId } from '../../protocol/ids.ts';
import { DrainReply } from '../../protocol/inference.ts';
import { nodeSubject } from '../../protocol/subjects.ts';
import { systemClock } from '../../runtime/clock.ts';
import { withBus } from '../bus-session.ts';
import type { CommandContext } from '../context.ts';
import { CliError, EXIT } from '../exit-code.ts';

const ANSWER_MS = 5_000;
const LOOK_EVERY_MS = 1_000;
/** As long as the longest attempt may take. */
const WAIT_MAX_MS = 86_400_000;

export async function drain(
  context: CommandContext,
  name: string,
  options: { readonly off: boolean; readonly wait: boolean },
): Promise<number> {
  const node = NodeId.safeParse(name);
  if (!node.success) throw new CliError('usage', `${name} is no name of a machine`);
  const subject = nodeSubject(node.data, 'drain');
  const request = { drain: !options.off };
  await withBus(await context.config(), async ({ messenger }) => {
    // Asking again changes nothing and tells how much is left.
    const ask = () => messenger.ask(subject, request, DrainReply, { timeout_ms: ANSWER_MS });
    let reply = await ask();
    const endsMs = systemClock.monotonic() + WAIT_MAX_MS;
    while (options.wait && !options.off && reply.at_work > 0 && systemClock.monotonic() < endsMs) {
      context.terminal.note(`${name}: ${reply.at_work} still at work`);
      await systemClock.sleep(LOOK_EVERY_MS);
      reply = await ask();
    }
    context.terminal.result({ node: name, ...reply }, () =>
      reply.draining
        ? `${name} takes nothing new; ${reply.at_work} still at work (\`codegod drain ${name} --off\` takes it back)`
        : `${name} is in service`,
    );
  });
  return EXIT.ok;
}
