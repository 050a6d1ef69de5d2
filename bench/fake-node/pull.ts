/** `/api/pull`: from a registry of its own, at its speed; what it does not have is not to be had. */
import { ApiError } from './api-error.ts';
import type { Caller } from './caller.ts';
import { type FakeModel, tagged } from './fake-model.ts';
import { type Exchange, type NodeState, textOf } from './node-state.ts';
import { sendJson } from './player.ts';

const PROGRESS_MS = 60;

export async function pull(state: NodeState, exchange: Exchange): Promise<void> {
  const { body, response, caller } = exchange;
  const asked = textOf(body['model']) || textOf(body['name']);
  if (asked === '') throw new ApiError(400, 'invalid model name');
  const found = state.registry.get(tagged(asked).toLowerCase());
  const missing = 'pull model manifest: file does not exist';
  if (body['stream'] === false) {
    if (found === undefined) throw new ApiError(500, missing);
    for await (const _ of download(state, found, caller));
    return sendJson(response, 200, { status: 'success' });
  }
  const write = (line: object): boolean => response.write(`${JSON.stringify(line)}\n`);
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
  write({ status: 'pulling manifest' });
  if (found === undefined) write({ error: missing });
  else for await (const line of download(state, found, caller)) write(line);
  response.end();
}

/** What a cancelled pull has is kept: the next one goes on from there. */
const had = new WeakMap<NodeState, Map<string, number>>();

async function* download(
  state: NodeState,
  model: FakeModel,
  caller: Caller,
): AsyncGenerator<object> {
  const kept = had.get(state) ?? new Map<string, number>();
  had.set(state, kept);
  const digest = model.file.replace('-', ':');
  const status = `pulling ${digest.slice(7, 19)}`;
  const total = model.fileBytes;
  for (;;) {
    const completed = kept.get(model.file) ?? 0;
    yield { status, digest, total, ...(completed > 0 ? { completed } : {}) };
    if (completed >= total) break;
    await new Promise(resolve => setTimeout(resolve, PROGRESS_MS * state.timeScale));
    if (caller.gone) return;
    const more = (state.pullBytesPerS * PROGRESS_MS) / 1_000;
    kept.set(model.file, Math.min(total, Math.round(completed + more)));
  }
  state.models.set(model.name.toLowerCase(), model);
  for (const step of ['verifying sha256 digest', 'writing manifest', 'success']) {
    yield { status: step };
  }
}
