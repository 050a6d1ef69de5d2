/** Whatever grows is named in docs/retention.md with its bound, so that nothing is kept for ever by mistake. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { workspaceRoots } from '../actors/mcp-gateway/adapters/workspace-place.ts';
import { ARTIFACTS, BUCKETS, STREAMS } from '../protocol/streams.ts';
import { GATEWAY_KEYS, MASTER_KEYS, WORKER_KEYS } from '../runtime/journal-keys.ts';
import { sourcePath } from './source-tree.ts';

const GIB = 1024 ** 3;
const DAY_MS = 86_400_000;
const page = readFileSync(sourcePath('docs/retention.md'), 'utf8');
const rows = page.split('\n').filter(line => line.startsWith('|'));

const size = (bytes: number): string =>
  bytes >= GIB ? `${bytes / GIB} GiB` : `${(bytes / GIB) * 1024} MiB`;
const age = (ms: number): string => (ms >= DAY_MS ? `${ms / DAY_MS} days` : `${ms / 1_000} s`);

function rowOf(name: string, ...words: readonly string[]): string {
  const row = rows.find(
    line => line.includes(`\`${name}\``) && words.every(word => line.startsWith(`| ${word} |`)),
  );
  assert.ok(row !== undefined, `docs/retention.md does not say how ${name} ends (${words})`);
  return row;
}

test('every stream, bucket and object store is on the page, with its age and its size', () => {
  const aged = [...Object.values(STREAMS), ARTIFACTS].map(
    ({ name, max_age_ms, max_bytes }) => [name, max_age_ms, max_bytes] as const,
  );
  const buckets = Object.values(BUCKETS).map(
    ({ name, ttl_ms, max_bytes }) => [name, ttl_ms, max_bytes] as const,
  );
  for (const [name, ms, bytes] of [...aged, ...buckets]) {
    const row = rowOf(name);
    assert.ok(row.endsWith(`| ${size(bytes)} |`), `${name} holds at most ${size(bytes)}`);
    if (ms > 0) assert.ok(row.includes(age(ms)), `${name} ends after ${age(ms)}`);
  }
});

test('every name in a journal is on the page', () => {
  const journals = { master: MASTER_KEYS, gateway: GATEWAY_KEYS, worker: WORKER_KEYS };
  for (const [journal, keys] of Object.entries(journals)) {
    for (const key of Object.values(keys)) rowOf(key, journal);
  }
});

test('every folder of the workspaces is on the page', () => {
  for (const folder of Object.values(workspaceRoots(''))) rowOf(`${folder}/`);
});
