/** Publishing a request to build, and following the facts of a build to its end. */
import type { BuildRequest } from '../protocol/build.ts';
import { CodeGodError } from '../protocol/errors.ts';
import { Fact } from '../protocol/fact.ts';
import { type BuildId, buildIdOf } from '../protocol/ids.ts';
import { STREAMS } from '../protocol/streams.ts';
import { BUILD_SUBJECT, eventsOf } from '../protocol/subjects.ts';
import { systemClock } from '../runtime/clock.ts';
import type { Messenger } from '../runtime/messages.ts';

const PUBLISH_MS = 20_000;
const PAUSE_MS = 250;

/**
 * Stores the request, once, however often it is tried: `id` is its `Nats-Msg-Id`. A bus that is
 * just coming back is waited for.
 */
export async function publishBuild(
  messenger: Messenger,
  request: BuildRequest,
  id: string,
  signal?: AbortSignal,
): Promise<BuildId> {
  const deadline = systemClock.monotonic() + PUBLISH_MS;
  for (;;) {
    try {
      const result = await messenger.append(BUILD_SUBJECT, 'build.requested', request, { id });
      if (result.kind === 'appended') return buildIdOf(result.seq);
      throw new CodeGodError('overloaded', `the bus takes no more builds: ${result.kind}`);
    } catch (error) {
      const mayMend = error instanceof CodeGodError && error.retryable;
      if (!mayMend || systemClock.monotonic() > deadline) throw error;
      await systemClock.sleep(PAUSE_MS, signal);
    }
  }
}

/** The facts of one build from a place in its log on, until it has ended or the signal fires. */
export async function* factsOf(
  messenger: Messenger,
  build: BuildId,
  fromSeq: number,
  signal: AbortSignal,
): AsyncGenerator<{ readonly fact: Fact; readonly seq: number }> {
  const options = { filter: eventsOf(build), from_seq: fromSeq, signal };
  for await (const message of messenger.bus.streams.follow(STREAMS.event.name, options)) {
    const fact = messenger.decode(message, Fact);
    yield { fact, seq: message.seq };
    if (fact.type === 'build.ended' || fact.type === 'build.rejected') return;
  }
}
