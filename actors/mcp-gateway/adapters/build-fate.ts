/**
 * What has become of a build, by the facts that the master stores: the gateway keeps things of builds
 * and has to know which of them nobody needs any more.
 *
 * F1: only what was read counts. A bus that does not answer is thrown on, and what cannot be read or
 *     is not known to be over goes on.
 */
import { z } from 'zod';
import { decode } from '../../../protocol/codec.ts';
import { HEADER } from '../../../protocol/envelope.ts';
import { CodeGodError } from '../../../protocol/errors.ts';
import { BuildStamp, type StampedBuild } from '../../../protocol/ids.ts';
import { STREAMS } from '../../../protocol/streams.ts';
import { eventSubject, eventsOf } from '../../../protocol/subjects.ts';
import type { StoredMessage, Streams } from '../../../runtime/bus.ts';

/** `unknown`: this bus has no fact of it, or those of another build of its number. */
export type BuildFate = 'open' | 'ended' | 'unknown';

export type FateOf = (build: StampedBuild) => Promise<BuildFate>;

const Received = z.looseObject({ stamp: BuildStamp.optional() });

export function buildFates(streams: Pick<Streams, 'last'>): FateOf {
  const last = (subject: string) => streams.last(STREAMS.event.name, subject);
  return async ({ build, stamp }) => {
    const received = await last(eventSubject(build, 'build.received'));
    // The first fact is the first that gets too old.
    if (received === null) return (await last(eventsOf(build))) === null ? 'unknown' : 'open';
    const fact = readReceived(received);
    if (fact === null) return 'open';
    if (fact.stamp !== stamp) return 'unknown';
    const ended = await last(eventSubject(build, 'build.ended'));
    if (ended === null) return 'open';
    const controlled = await last(eventSubject(build, 'build.controlled'));
    // Of a build that has ended, only a retry becomes a fact.
    return controlled !== null && controlled.seq > ended.seq ? 'open' : 'ended';
  };
}

function readReceived({ body, headers }: StoredMessage): z.infer<typeof Received> | null {
  try {
    return Received.safeParse(decode(body, headers[HEADER.contentType])).data ?? null;
  } catch (error) {
    if (error instanceof CodeGodError) return null;
    throw error;
  }
}
