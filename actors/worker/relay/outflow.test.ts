/** Goal: bytes go out in order, together where they came together, and never faster than taken. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { MessageHeaders } from '../../../runtime/bus.ts';
import { Outflow, type Source, Turn } from './outflow.ts';

interface Sent {
  readonly text: string;
  readonly headers: MessageHeaders;
}

class Scene implements Source {
  readonly sent: Sent[] = [];
  readonly events: string[] = [];
  /** While set, whoever sends waits. */
  gate: Promise<void> | null = null;
  error: Error | null = null;
  readonly outflow = new Outflow((body, headers) => this.#send(body, headers), new Turn(), this);

  pause(): void {
    this.events.push('pause');
  }

  resume(): void {
    this.events.push('resume');
  }

  stuck(error: unknown): void {
    this.events.push(`stuck: ${(error as Error).message}`);
  }

  async #send(body: Uint8Array, headers: MessageHeaders = {}): Promise<void> {
    if (this.gate !== null) await this.gate;
    if (this.error !== null) throw this.error;
    this.sent.push({ text: Buffer.from(body).toString('utf8'), headers });
  }
}

const texts = ({ sent }: Scene): string[] => sent.map(({ text }) => text);

test('text and bytes of one turn are one message; the first has the head, the last the end', async () => {
  const scene = new Scene();
  scene.outflow.head({ head: '1' });
  for (const part of ['a', 'é', Buffer.from('b'), 'c']) scene.outflow.push(part);
  await turn();
  assert.deepEqual(scene.sent, [{ text: 'aébc', headers: { head: '1' } }]);
  scene.outflow.push('d');
  await scene.outflow.end({ last: '1' });
  assert.deepEqual(scene.sent[1], { text: 'd', headers: { last: '1' } });
  assert.equal(scene.sent.length, 2);
});

test('the last headers go alone where nothing is left to carry them, and not at all where there are none', async () => {
  const scene = new Scene();
  scene.outflow.push('a');
  await turn();
  await scene.outflow.end({ last: '1' });
  assert.deepEqual(scene.sent[1], { text: '', headers: { last: '1' } });
  const silent = new Scene();
  await silent.outflow.end(null);
  assert.equal(silent.sent.length, 0);
});

test('only the newest note of a turn is sent, none beside bytes, and none after the end', async () => {
  const scene = new Scene();
  scene.outflow.note({ n: '1' });
  scene.outflow.note({ n: '2' });
  await turn();
  assert.deepEqual(scene.sent, [{ text: '', headers: { n: '2' } }]);
  scene.outflow.note({ n: '3' });
  scene.outflow.push('a');
  await turn();
  await scene.outflow.end({ last: '1' });
  scene.outflow.note({ n: '4' });
  await turn();
  assert.deepEqual(texts(scene), ['', 'a', '']);
});

test('a caller that takes nothing makes the source pause, and nothing is lost', async () => {
  const scene = new Scene();
  let open = (): void => {};
  scene.gate = new Promise(resolve => {
    open = resolve;
  });
  const part = 'x'.repeat(600_000);
  scene.outflow.push(part);
  await turn();
  scene.outflow.push(part);
  scene.outflow.push(part);
  assert.deepEqual(scene.events, ['pause']);
  scene.gate = null;
  open();
  await scene.outflow.end({ last: '1' });
  assert.deepEqual(scene.events, ['pause', 'resume']);
  assert.equal(texts(scene).join(''), part.repeat(3));
  assert.ok(texts(scene).every(({ length }) => length <= 256 * 1024));
  assert.deepEqual(
    scene.sent.map(({ headers }) => headers).filter(({ last }) => last !== undefined),
    [{ last: '1' }],
  );
});

test('a caller that has gone is told to the source once, and to whoever ends', async () => {
  const scene = new Scene();
  scene.error = new Error('the caller has gone');
  scene.outflow.push('a');
  await turn();
  scene.outflow.push('b');
  await turn();
  assert.deepEqual(scene.events, ['stuck: the caller has gone']);
  await assert.rejects(scene.outflow.end({ last: '1' }), /the caller has gone/);
});
