/**
 * Makes the state folder of a release for the upgrade test: runs that release's own checkout, kills
 * everything in the middle of several builds, and packs what is left.
 *
 *     git worktree add --detach /tmp/old <commit> && ln -s "$PWD/node_modules" /tmp/old/node_modules
 *     node --import tsx test/e2e/upgrade/make-state.ts /tmp/old
 */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { BUILD_SUBJECT } from '../../../protocol/subjects.ts';
import { eventually, TestSystem } from '../test-system.ts';
import { BUILDS_FILE, HOME, packedState, releaseHome, takeHome } from './state-folder.ts';

const API = 'Create a REST API for authors with name and born';
/** Of the home: what a later start needs, and the logs that tell what was done. */
const PACKED = ['builds.json', 'config', 'data/nats', 'data/projects', 'data/worktrees', 'state'];
const CALLS_SEEN = 3;

const checkout = resolve(process.argv[2] ?? '');
const commit = execFileSync('git', ['-C', checkout, 'rev-parse', '--short=7', 'HEAD'], {
  encoding: 'utf8',
}).trim();

await takeHome();
execFileSync('mkdir', ['-p', join(HOME, 'data')]);
const system = await TestSystem.create(
  { CODEGOD_SCAFFOLD_PACE_MS: process.env['PACE_MS'] ?? '150', CODEGOD_BUILDS_MAX: '2' },
  process.execPath,
  { home: HOME, program: ['--import', import.meta.resolve('tsx'), join(checkout, 'cli/main.ts')] },
);
try {
  await system.ok('up', '-d');
  const merges = await system.wiretap('codegod.event.*.task.merged');
  const merged = await system.begin(API);
  await eventually(
    () => merges.heard.some(({ subject }) => subject.includes(`.${merged}.`)),
    60_000,
  );
  const calling = await system.begin(API.replace('authors', 'writers'));
  const queued = await system.begin(API.replace('authors', 'poets'));
  const { bus, actors, supervisor_pid } = await system.status();
  await callsOf(calling, CALLS_SEEN);
  for (const pid of [...actors.map(actor => actor.pid), supervisor_pid]) kill(pid);
  const client = await system.bus();
  const request = JSON.stringify({ prompt: API.replace('authors', 'painters') });
  const stored = await client.streams.append(BUILD_SUBJECT, new TextEncoder().encode(request), {
    id: 'unseen',
  });
  await client.close();
  kill(bus.pid);
  await eventually(() => system.processes().length === 0, 20_000);
  if (stored.kind !== 'appended') throw new Error(`the last request: ${stored.kind}`);
  const builds = { merged, calling, queued, unseen: `b${stored.seq}` };
  writeFileSync(BUILDS_FILE, `${JSON.stringify(builds)}\n`);
  execFileSync('tar', ['-czf', packedState(commit), '-C', HOME, ...PACKED]);
  console.log(packedState(commit), builds);
} finally {
  for (const pid of system.processes()) kill(pid);
  releaseHome();
}

function kill(pid: number | null): void {
  if (pid !== null) process.kill(pid, 'SIGKILL');
}

/** Until this many calls of a build have been asked for: all before the last are journalled. */
async function callsOf(build: string, count: number): Promise<void> {
  const calls = await system.wiretap('codegod.mcp.*.call');
  const decoder = new TextDecoder();
  await eventually(() => {
    const own = calls.heard.filter(({ body }) => decoder.decode(body).includes(`"${build}.`));
    return own.length >= count;
  }, 120_000);
}

// The wiretaps would connect for ever.
process.exit();
