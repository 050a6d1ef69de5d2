/** `cancel`, `approve`, `retry`, `pause`, `resume`: one request to the master, whoever it is now. */
import { z } from 'zod';
import type { ControlRequest } from '../../protocol/build.ts';
import { CodeGodError } from '../../protocol/errors.ts';
import { BuildId, buildIdOf } from '../../protocol/ids.ts';
import { STREAMS } from '../../protocol/streams.ts';
import { BUILD_SUBJECT, controlSubject } from '../../protocol/subjects.ts';
import { systemClock } from '../../runtime/clock.ts';
import { parseBuildId } from '../build-id.ts';
import { type BusSession, withBus } from '../bus-session.ts';
import type { CommandContext } from '../context.ts';
import { CliError, EXIT } from '../exit-code.ts';

const ANSWER_MS = 5_000;
/** A master that is just being started again. */
const ABSENT_MAX_MS = 5_000;
const PAUSE_MS = 250;

export async function control(
  context: CommandContext,
  text: string,
  request: ControlRequest,
): Promise<number> {
  await withBus(await context.config(), async session => {
    const id = await resolveBuild(session, text);
    await ask(session, id, request);
    const { action } = request;
    context.terminal.result({ id, action }, () => `${id}: asked to ${action}`);
  });
  return EXIT.ok;
}

async function ask({ messenger }: BusSession, id: BuildId, request: ControlRequest): Promise<void> {
  const deadline = systemClock.monotonic() + ABSENT_MAX_MS;
  for (;;) {
    try {
      await messenger.ask(controlSubject(id), request, z.unknown(), { timeout_ms: ANSWER_MS });
      return;
    } catch (error) {
      const isAbsent = error instanceof CodeGodError && error.code === 'no_responders';
      if (!isAbsent || systemClock.monotonic() > deadline) throw error;
      await systemClock.sleep(PAUSE_MS);
    }
  }
}

/** `b42` for whatever names a build; the newest request in the stream for `latest`. */
export async function resolveBuild({ bus }: BusSession, text: string): Promise<BuildId> {
  const id = parseBuildId(text);
  if (id !== 'latest') return BuildId.parse(id);
  const last = await bus.streams.last(STREAMS.build.name, BUILD_SUBJECT);
  if (last === null) throw new CliError('not_found', 'there is no build yet');
  return buildIdOf(last.seq);
}
