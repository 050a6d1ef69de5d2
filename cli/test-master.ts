/** A master that builds nothing: it answers each request with the facts of a build. Tests only. */
import { createHash } from 'node:crypto';
import type { BuildRequest } from '../protocol/build.ts';
import { ControlRequest } from '../protocol/build.ts';
import type { Fact, FactBody } from '../protocol/fact.ts';
import { type BuildId, buildIdOf } from '../protocol/ids.ts';
import { ARTIFACTS, STREAMS } from '../protocol/streams.ts';
import { BUILD_SUBJECT, controlSubject } from '../protocol/subjects.ts';
import type { ArtifactReference } from '../protocol/text.ts';
import { systemClock } from '../runtime/clock.ts';
import { createMessenger, type Messenger } from '../runtime/messages.ts';
import { connectNats } from '../runtime/nats-bus.ts';

export interface TestMaster {
  readonly requests: BuildRequest[];
  readonly controls: string[];
  /** Says what happened in a build. */
  say(build: BuildId, body: FactBody): Promise<void>;
  /** Stores a file as an artifact. */
  keep(name: string, bytes: Uint8Array): Promise<ArtifactReference>;
  stop(): Promise<void>;
}

/** `onBuild` is called for each request, once. */
export async function startTestMaster(
  url: string,
  onBuild: (master: TestMaster, build: BuildId) => Promise<void>,
): Promise<TestMaster> {
  const bus = await connectNats({ servers: [url], name: 'test-master', clock: systemClock });
  const messenger = createMessenger(bus, { source: '/node/n1/actor/master', clock: systemClock });
  for (const { name, subjects } of [STREAMS.build, STREAMS.event]) {
    await bus.streams.ensure({ name, subjects, storage: 'file', discard: 'old' });
  }
  const objects = bus.objects(ARTIFACTS.name);
  await objects.ensure({ storage: 'file' });
  const writer = factWriter(messenger);
  const stop = new AbortController();
  const master: TestMaster = {
    requests: [],
    controls: [],
    say: writer,
    async keep(name, bytes) {
      const { size } = await objects.put(name, bytes);
      const sha256 = createHash('sha256').update(bytes).digest('hex');
      return { bucket: ARTIFACTS.name, name, sha256, size };
    },
    async stop() {
      stop.abort();
      await serving;
      await bus.close();
    },
  };
  messenger.serve(controlSubject('*'), ControlRequest, async ({ action }) => {
    master.controls.push(action);
    return { ok: true };
  });
  const from = ((await bus.streams.info(STREAMS.build.name))?.last_seq ?? 0) + 1;
  const serving = serveBuilds(messenger, master, onBuild, from, stop.signal);
  return master;
}

async function serveBuilds(
  messenger: Messenger,
  master: TestMaster,
  onBuild: (master: TestMaster, build: BuildId) => Promise<void>,
  fromSeq: number,
  signal: AbortSignal,
): Promise<void> {
  const options = { filter: BUILD_SUBJECT, from_seq: fromSeq, signal };
  for await (const message of messenger.bus.streams.follow(STREAMS.build.name, options)) {
    master.requests.push(JSON.parse(new TextDecoder().decode(message.body)));
    await onBuild(master, buildIdOf(message.seq));
  }
}

function factWriter(messenger: Messenger): TestMaster['say'] {
  const counts = new Map<BuildId, number>();
  return async (build, body) => {
    const bseq = (counts.get(build) ?? 0) + 1;
    counts.set(build, bseq);
    const fact = { ...body, v: 1, build, bseq, fence: 1, prev: '0'.repeat(64) } as Fact;
    await messenger.append(`codegod.event.${build}.${body.type}`, body.type, fact);
  };
}
