/** When models are loaded, loaded again, and unloaded, of a server that holds three at most. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { type Client, type Json, until } from './client.ts';

const OPTIONS = { num_ctx: 512, num_predict: 1, temperature: 0 };
const NS_PER_MS = 1e6;
/** Between what the report of an answer takes (1 to 6 ms) and a load (280 ms as a rule, 35 at least). */
const LOAD_MS = 20;
const RELOAD_TRIES = 3;

export function loading(client: () => Client): void {
  /**
   * Whether a request loads a model anew that is there for the usual options. A busy machine may make
   * any of them slow, but none that loads is quick: it loads every time if it does once.
   */
  async function reloads(model: string, more: Json): Promise<boolean> {
    for (let tries = 0; tries < RELOAD_TRIES; tries++) {
      await client().chat(model, 'hi', { options: OPTIONS });
      const { load_duration: ns } = await client().chat(model, 'hi', more);
      if (Number(ns) / NS_PER_MS < LOAD_MS) return false;
    }
    return true;
  }

  it('loads a model for no message at all, and unloads it for no message and no time', async () => {
    const loaded = await client().load('tiny', { options: { num_ctx: 512 } });
    const { created_at: _, ...rest } = loaded;
    assert.deepEqual(rest, {
      ...{ model: 'tiny', message: { role: 'assistant', content: '' } },
      ...{ done: true, done_reason: 'load' },
    });
    const [running] = await client().running();
    assert.deepEqual(Object.keys(running ?? {}).sort(), [
      ...['context_length', 'details', 'digest', 'expires_at', 'model', 'name', 'size'],
      'size_vram',
    ]);
    assert.deepEqual([running?.['name'], running?.['context_length']], ['tiny:latest', 512]);
    assert.ok(Number(running?.['size']) > 400_000);
    // On this machine everything lies in main memory.
    assert.equal(running?.['size_vram'], 0);
    const left = Date.parse(String(running?.['expires_at'])) - Date.now();
    assert.ok(Math.abs(left - 300_000) < 20_000, `${left} ms instead of five minutes`);
    const gone = await client().load('tiny', { keep_alive: 0 });
    assert.equal(gone['done_reason'], 'unload');
    await until(async () => !(await client().loaded()).includes('tiny'));
  });

  it('unloads for an empty prompt and no time as well', async () => {
    const body = { model: 'tiny', prompt: '' };
    const loaded = await client().ask('/api/generate', body);
    assert.equal(loaded.json['done_reason'], 'load');
    const gone = await client().ask('/api/generate', { ...body, keep_alive: 0 });
    assert.equal(gone.json['done_reason'], 'unload');
    await until(async () => !(await client().loaded()).includes('tiny'));
  });

  it('loads again for another context or batch, but not for other words about the answer', async () => {
    await client().load('tiny', { options: { num_ctx: 512 } });
    const same = { options: OPTIONS };
    assert.equal(await reloads('tiny', same), false);
    const free: readonly Json[] = [
      { ...same, shift: false, truncate: false, think: false },
      { options: { ...OPTIONS, temperature: 0.7, num_predict: 2, seed: 3, num_batch: 512 } },
      { ...same, format: { type: 'object', properties: {} }, keep_alive: '10m' },
    ];
    for (const more of free) assert.equal(await reloads('tiny', more), false, JSON.stringify(more));
    assert.equal(await reloads('tiny', { options: { ...OPTIONS, num_batch: 256 } }), true);
    assert.equal(await reloads('tiny', { options: { ...OPTIONS, num_ctx: 1_024 } }), true);
    assert.equal((await client().running())[0]?.['context_length'], 1_024);
  });

  it('gives a model no more context than it was made for', async () => {
    await client().load('tiny', { options: { num_ctx: 100_000 } });
    assert.equal((await client().running())[0]?.['context_length'], 32_768);
  });

  it('takes two bytes per element of its cache: layers, key and value heads, their width', async () => {
    assert.equal(await client().bytesPerToken('tiny'), 2 * 2 * 2 * 16 * 2);
  });

  it('forgets a model when its time is over, and not before if that is never', async () => {
    await client().load('tiny', { keep_alive: -1 });
    const [kept] = await client().running();
    assert.ok(Date.parse(String(kept?.['expires_at'])) > Date.parse('2300-01-01'));
    await client().load('tiny', { keep_alive: '200ms' });
    await until(async () => (await client().loaded()).length === 0);
    await client().chat('tiny', 'hi', { options: OPTIONS, keep_alive: 0 });
    await until(async () => (await client().loaded()).length === 0);
  });

  it('does not understand a time without a unit, and calls a number seconds', async () => {
    for (const [keep_alive, error] of [
      ['-1', 'time: missing unit in duration "-1"'],
      ['abc', 'time: invalid duration "abc"'],
    ] as const) {
      const body = { model: 'tiny', messages: [], keep_alive };
      const { status, json } = await client().ask('/api/chat', body);
      assert.deepEqual([status, json], [400, { error }]);
    }
    await client().load('tiny', { keep_alive: 60 });
    const [running] = await client().running();
    const left = Date.parse(String(running?.['expires_at'])) - Date.now();
    assert.ok(Math.abs(left - 60_000) < 20_000, `${left} ms instead of a minute`);
  });

  it('unloads the idle one with the shortest time for a fourth', async () => {
    await client().unload('tiny');
    for (const [model, keep_alive] of [
      ['tiny', '10m'],
      ['other', '1m'],
      ['third', '5m'],
    ] as const) {
      await client().load(model, { keep_alive, options: { num_ctx: 512 } });
    }
    await client().load('tools', { options: { num_ctx: 512 } });
    assert.deepEqual(await client().loaded(), ['third', 'tiny', 'tools']);
    await client().unload('third', 'tiny', 'tools');
  });
}
