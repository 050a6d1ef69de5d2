/** Both fact logs: the journal's beside a memory journal, the stream's on a real nats-server. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { FactBody } from '../protocol/fact.ts';
import { BuildId } from '../protocol/ids.ts';
import { STREAMS } from '../protocol/streams.ts';
import { eventSubject, eventsOf } from '../protocol/subjects.ts';
import { type NatsFixture, startNats } from '../test/nats-fixture.ts';
import type { Bus } from './bus.ts';
import { systemClock } from './clock.ts';
import { type FactLog, LOG_START, type LogPosition, type StoredFact } from './fact-log.ts';
import { createJournalFactLog } from './fact-log-journal.ts';
import { createStreamFactLog } from './fact-log-stream.ts';
import { memoryJournal } from './journal.ts';
import { connectNats } from './nats-bus.ts';

const DUPLICATE_WINDOW_MS = 100;

const admitted = (at: number): FactBody => ({ type: 'build.admitted', at });

async function appendAll(
  log: FactLog<FactBody>,
  entity: string,
  facts: readonly FactBody[],
): Promise<LogPosition> {
  let position = LOG_START;
  for (const fact of facts) {
    const appended = await log.append(entity, fact, position);
    assert.equal(appended.kind, 'appended');
    if (appended.kind === 'appended') position = appended.position;
  }
  return position;
}

async function read(
  log: FactLog<FactBody>,
  entity: string,
  from: LogPosition = LOG_START,
): Promise<StoredFact<FactBody>[]> {
  const facts: StoredFact<FactBody>[] = [];
  for await (const fact of log.read(entity, from)) facts.push(fact);
  return facts;
}

/** What holds for every fact log. */
function behavesLikeALog(open: () => { log: FactLog<FactBody>; entity: string }): void {
  test('facts come back as they were said, numbered and chained', async () => {
    const { log, entity } = open();
    const facts = [admitted(1), admitted(2), admitted(3)];
    const end = await appendAll(log, entity, facts);
    const stored = await read(log, entity);
    assert.deepEqual(
      stored.map(({ fact }) => fact),
      facts,
    );
    assert.deepEqual(
      stored.map(({ position }) => position.bseq),
      [1, 2, 3],
    );
    assert.deepEqual(stored[2]?.position, end);
  });

  test('reading goes on after any position', async () => {
    const { log, entity } = open();
    await appendAll(log, entity, [admitted(1), admitted(2), admitted(3)]);
    const [first] = await read(log, entity);
    assert(first !== undefined);
    const rest = await read(log, entity, first.position);
    assert.deepEqual(
      rest.map(({ fact }) => fact.at),
      [2, 3],
    );
  });

  test('a position that is not in the log is refused', async () => {
    const { log, entity } = open();
    const end = await appendAll(log, entity, [admitted(1), admitted(2)]);
    const elsewhere = { ...end, hash: 'f'.repeat(64) };
    await assert.rejects(read(log, entity, elsewhere), { code: 'log_corrupt' });
  });

  test('the same append made again is found and taken as appended, once', async () => {
    const { log, entity } = open();
    const end = await appendAll(log, entity, [admitted(1)]);
    const again = await log.append(entity, admitted(1), LOG_START);
    assert.deepEqual(again, { kind: 'appended', position: end });
    assert.equal((await read(log, entity)).length, 1);
  });

  test('another fact at a place that is taken is refused', async () => {
    const { log, entity } = open();
    await appendAll(log, entity, [admitted(1), admitted(2)]);
    assert.deepEqual(await log.append(entity, admitted(9), LOG_START), { kind: 'not_leader' });
    assert.equal((await read(log, entity)).length, 2);
  });

  test('an entity without facts is empty', async () => {
    const { log, entity } = open();
    assert.deepEqual(await read(log, entity), []);
  });
}

describe('the log in the journal', async () => {
  const journal = await memoryJournal();
  const log = createJournalFactLog<FactBody>(journal);
  let entities = 0;
  const fresh = (): string => {
    entities += 1;
    return `b${entities}.store.1`;
  };
  behavesLikeALog(() => ({ log, entity: fresh() }));

  test('a missing fact is a gap, and says where', async () => {
    const entity = fresh();
    await appendAll(log, entity, [admitted(1), admitted(2), admitted(3)]);
    await journal.batch([{ type: 'del', key: `fact/${entity}/000000000002` }]);
    await assert.rejects(read(log, entity), {
      code: 'log_corrupt',
      message: `fact 2 of ${entity} has number 3`,
    });
  });

  test('what is forgotten is gone, and nothing else', async () => {
    const [kept, forgotten] = [fresh(), fresh()];
    await appendAll(log, kept, [admitted(1)]);
    await appendAll(log, forgotten, [admitted(1), admitted(2)]);
    await log.forget(forgotten);
    assert.deepEqual(await read(log, forgotten), []);
    const entities = await log.entities();
    assert(entities.includes(kept) && !entities.includes(forgotten));
  });
});

describe('the log in a stream', { timeout: 60_000 }, () => {
  let nats: NatsFixture;
  let bus: Bus;
  let builds = 0;
  const fresh = (): BuildId => {
    builds += 1;
    return BuildId.parse(`b${builds}`);
  };
  const logUnder = (fence: number): FactLog<FactBody> =>
    createStreamFactLog({ bus, source: '/node/n1/actor/master', fence: () => fence });

  before(async () => {
    nats = await startNats();
    bus = await connectNats({ servers: [nats.url], name: 'fact-log-test', clock: systemClock });
    const { event } = STREAMS;
    await bus.streams.ensure({
      name: event.name,
      subjects: event.subjects,
      storage: 'file',
      discard: 'new',
      duplicate_window_ms: DUPLICATE_WINDOW_MS,
    });
  });
  after(async () => {
    await bus?.close();
    await nats?.stop();
  });

  behavesLikeALog(() => ({ log: logUnder(0), entity: fresh() }));

  /** The stored bytes of a build's facts, to be put back damaged under another build. */
  async function messagesOf(build: BuildId) {
    const messages = [];
    for await (const message of bus.streams.read(STREAMS.event.name, {
      filter: eventsOf(build),
      from_seq: 1,
    })) {
      messages.push(message);
    }
    return messages;
  }

  /** Purges a build's facts and stores them again, changed by `damage`. */
  async function damaged(
    build: BuildId,
    damage: (bodies: Uint8Array[]) => (Uint8Array | undefined)[],
  ): Promise<void> {
    const messages = await messagesOf(build);
    await bus.streams.purge(STREAMS.event.name, eventsOf(build));
    const bodies = damage(messages.map(message => Uint8Array.from(message.body)));
    for (const [index, body] of bodies.entries()) {
      const message = messages[index];
      if (body === undefined || message === undefined) continue;
      const kept = Object.entries(message.headers).filter(([name]) => !name.startsWith('Nats-'));
      await bus.streams.append(message.subject, body, { headers: Object.fromEntries(kept) });
    }
  }

  test('stored facts are plain JSON with build, number, fence and the hash before', async () => {
    const build = fresh();
    await appendAll(logUnder(7), build, [admitted(1), admitted(2)]);
    const [first, second] = await messagesOf(build);
    assert.equal(first?.subject, `codegod.event.${build}.build.admitted`);
    const { prev, ...rest } = JSON.parse(new TextDecoder().decode(second?.body));
    assert.deepEqual(rest, { v: 1, build, bseq: 2, at: 2, fence: 7, type: 'build.admitted' });
    assert.match(prev, /^[0-9a-f]{64}$/);
    assert.equal(second?.headers['ce-type'], 'dev.codegod.build.admitted.v1');
  });

  test('whether anything stands after the last fact is one question', async () => {
    const entity = fresh();
    const end = await appendAll(logUnder(1), entity, [admitted(1)]);
    let readings = 0;
    const counted = (...args: Parameters<Bus['streams']['read']>) => {
      readings += 1;
      return bus.streams.read(...args);
    };
    const log = createStreamFactLog({
      bus: { ...bus, streams: { ...bus.streams, read: counted } },
      source: '/node/n1/actor/master',
      fence: () => 1,
    });
    assert.deepEqual(await read(log, entity, end), []);
    assert.equal(readings, 0);
    await log.append(entity, admitted(2), end);
    assert.equal((await read(log, entity, end)).length, 1);
  });

  for (const position of [0, 1, 2]) {
    test(`a flipped bit in fact ${position + 1} of 3 is noticed`, async () => {
      const build = fresh();
      await appendAll(logUnder(0), build, [admitted(1), admitted(2), admitted(3)]);
      await damaged(build, bodies => {
        const body = bodies[position];
        // The digit of `"at":1`: one bit makes it another digit, and the JSON stays good.
        const place = body === undefined ? -1 : new TextDecoder().decode(body).indexOf('"at":') + 5;
        if (body !== undefined) body[place] = (body[place] ?? 0) ^ 1;
        return bodies;
      });
      await assert.rejects(read(logUnder(0), build), { code: 'log_corrupt' });
    });
  }

  test('a missing fact is a gap, and says where', async () => {
    const build = fresh();
    await appendAll(logUnder(0), build, [admitted(1), admitted(2), admitted(3)]);
    await damaged(build, ([first, , third]) => [first, undefined, third]);
    await assert.rejects(read(logUnder(0), build), {
      code: 'log_corrupt',
      message: `fact 2 of ${build} has number 3`,
    });
  });

  test('facts of another build are not taken for ours', async () => {
    const [ours, other] = [fresh(), fresh()];
    await appendAll(logUnder(0), other, [admitted(1)]);
    const [message] = await messagesOf(other);
    await bus.streams.append(
      eventSubject(ours, 'build.admitted'),
      message?.body ?? new Uint8Array(),
    );
    await assert.rejects(read(logUnder(0), ours), { code: 'log_corrupt' });
  });

  test('a stale writer is not the leader; a new one that is behind reads on and appends', async () => {
    const build = fresh();
    const [old, young] = [logUnder(3), logUnder(8)];
    const known = await appendAll(old, build, [admitted(1)]);
    const late = await old.append(build, admitted(2), known);
    assert.equal(late.kind, 'appended');
    assert.deepEqual(await young.append(build, admitted(3), known), { kind: 'behind' });
    const [missed] = await read(young, build, known);
    assert(missed !== undefined);
    assert.equal((await young.append(build, admitted(3), missed.position)).kind, 'appended');
    assert.deepEqual(await old.append(build, admitted(4), missed.position), { kind: 'not_leader' });
    const stored = await read(young, build);
    assert.deepEqual(
      stored.map(({ fact, fence }) => [fact.at, fence]),
      [
        [1, 3],
        [2, 3],
        [3, 8],
      ],
    );
  });

  test('an append made again after its id is forgotten is still found', async () => {
    const build = fresh();
    const log = logUnder(0);
    const end = await appendAll(log, build, [admitted(1)]);
    await systemClock.sleep(3 * DUPLICATE_WINDOW_MS);
    const again = await log.append(build, admitted(1), LOG_START);
    assert.deepEqual(again, { kind: 'appended', position: end });
    assert.equal((await read(log, build)).length, 1);
  });

  test('a fact over the limit is refused before it is sent', async () => {
    const excerpt = 'x'.repeat(STREAMS.event.max_message_bytes);
    const error = { code: 'internal' as const, message: 'm' };
    const fact: FactBody = { type: 'build.rejected', at: 1, error, excerpt };
    await assert.rejects(logUnder(0).append(fresh(), fact, LOG_START), { code: 'too_large' });
  });

  test('the chain holds over a server that is killed and comes back', async () => {
    const build = fresh();
    const log = logUnder(0);
    const end = await appendAll(log, build, [admitted(1), admitted(2)]);
    await nats.restart();
    const appended = await log.append(build, admitted(3), end);
    assert.equal(appended.kind, 'appended');
    assert.equal((await read(log, build)).length, 3);
  });
});
