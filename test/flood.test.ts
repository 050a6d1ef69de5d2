/**
 * Goal: whatever is sent, whoever reads it is done in time that grows like its length: a bound on
 * every pure reader of foreign text, and on every pattern of the tree.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { excerptOf, nameHint, readBuildRequest } from '../actors/master/build-request.ts';
import { failureSignature } from '../actors/master/build-verdict.ts';
import { globsOverlap } from '../actors/master/glob-overlap.ts';
import { selectorOf } from '../actors/master/http/pool/selector.ts';
import { lastLines } from '../actors/master/task-retry.ts';
import { lineReader } from '../actors/mcp-gateway/adapters/message-lines.ts';
import { countTests } from '../actors/mcp-gateway/check-outcome.ts';
import { nearestNames } from '../actors/mcp-gateway/nearest-names.ts';
import { findTool, splitToolId } from '../actors/mcp-gateway/tool-names.ts';
import { boundedResult, refusalCode } from '../actors/mcp-gateway/tool-result.ts';
import { trailersOf } from '../actors/mcp-gateway/trailers.ts';
import { parseAmdSmi, parseRocmSmi } from '../actors/resource-monitor/probes/amd-tools.ts';
import { parseDisplays, parseRegistry } from '../actors/resource-monitor/probes/apple.ts';
import { parseStat } from '../actors/resource-monitor/probes/cpu-load.ts';
import { parseFdinfo } from '../actors/resource-monitor/probes/drm-use.ts';
import { parseDetails, parseList } from '../actors/resource-monitor/probes/nvidia-mig.ts';
import { parseProcesses } from '../actors/resource-monitor/probes/nvidia-processes.ts';
import { parseName } from '../actors/resource-monitor/probes/pci.ts';
import { parseAnswer } from '../actors/worker/answer/parse-answer.ts';
import { parsePlan } from '../actors/worker/answer/parse-plan.ts';
import { CONTEXT } from '../actors/worker/answer/test-answers.ts';
import { readRequest } from '../actors/worker/engines/scaffold/request/read-request.ts';
import { fenceFor } from '../actors/worker/prompt/sections.ts';
import { signaturesOf } from '../actors/worker/prompt/signatures.ts';
import { estimateTokens } from '../actors/worker/prompt/tokens.ts';
import { decode } from '../protocol/codec.ts';
import { PATH_LENGTH_MAX } from '../protocol/limits.ts';
import { ownsPath } from '../protocol/owned-paths.ts';
import { pathFault } from '../protocol/text.ts';
import { createLogger } from '../runtime/log.ts';
import { nearestName, resolveAlias } from '../scheduling/model-names.ts';
import { floods, isSlow, patternsIn, slowFlood, timeOf } from './floods.ts';
import { sourcePath } from './source-tree.ts';
import { isTest } from './tidy/doors.ts';
import { readTree } from './tidy/tree.ts';

const PATTERN_FLOOD_LENGTH = 32_768;
/** Some fifty times what a linear one needs, and half of what a quadratic one needs on a fast machine. */
const PATTERN_MS_MAX = 60;
const READER_FLOOD_LENGTH = 1024 * 1024;
const READER_MS_MAX = 4_000;

/** Text of generated projects, not code of ours. */
const TEMPLATES = /scaffold\/(project|templates)\//;

const defaults = { fallback: 'deny', prefer_local: true, max_parallel_tasks: 5 } as const;
const failedCheck = {
  round: 1,
  passed: false,
  tests_passed: 0,
  tests_failed: 1,
  exit_code: 1,
  sandbox: 'bwrap',
  duration_ms: 1,
} as const;
const finish = 'stop' as const;
const log = createLogger({
  name: 'flood',
  level: 'info',
  destination: { write: () => undefined },
});

const READERS: Readonly<Record<string, (text: string) => unknown>> = {
  'a message in JSON': text => decode(Buffer.from(text), undefined),
  'a message in msgpack': text => decode(Buffer.from(text), 'application/msgpack'),
  'a request to build': text => readBuildRequest(Buffer.from(text), {}, defaults),
  'the excerpt of a rejected request': text => excerptOf(Buffer.from(text)),
  'a name for a project': nameHint,
  'a request to the scaffold': text => readRequest(text),
  'an answer': text => parseAnswer(text, CONTEXT),
  'an answer of one file': text => parseAnswer(`${text}\n\`\`\`\n`, { ...CONTEXT, owns: ['a.js'] }),
  'a plan': text => parsePlan(text, { finish, prompt: 'a service', tech_stack: {} }),
  'the output of a check': countTests,
  'what a failed check looks like': output =>
    failureSignature({ ...failedCheck, command: ['x'], output }),
  'the last lines of an error': lastLines,
  'a path': pathFault,
  'an owned path': text =>
    ownsPath(['src/**/*.js', text.slice(0, PATH_LENGTH_MAX)], text.slice(0, PATH_LENGTH_MAX)),
  'two globs': text => globsOverlap(text.slice(0, 512), `**/${text.slice(0, 512)}`),
  'a tool': tool => [
    splitToolId({ server: '', tool }, ['git']),
    findTool('git', tool, ['git_add']),
  ],
  'a name': text => nearestNames(text, ['git_add', 'git_commit']),
  'a model': text => [nearestName(text, ['a:1b', 'b:2b']), resolveAlias(text, { a: 'b' })],
  'the lines of a tool server': text => lineReader(() => undefined)(Buffer.from(text)),
  'the result of a tool': text => boundedResult({ content: [{ type: 'text', text }] }, 262_144),
  'the refusal of a tool': text => refusalCode(text, null),
  'the message of a commit': trailersOf,
  'a selector of nodes': selectorOf,
  'signatures of a file': text => signaturesOf('a.js', text, 500),
  'a fence around a text': fenceFor,
  'the tokens of a text': estimateTokens,
  'a line of the log': text => log.info('flood', { text, list: [text] }),
  'amd-smi': text => parseAmdSmi(text, text, 0),
  'rocm-smi': text => parseRocmSmi(text, 0),
  'nvidia-smi: processes': parseProcesses,
  'nvidia-smi: slices': text => [parseList(text), parseDetails(text)],
  'names of cards': text => parseName(text, '10de', '2204'),
  'a Mac': text => [parseDisplays(text), parseRegistry(text)],
  'the load of processors': parseStat,
  'descriptors of a driver': parseFdinfo,
};

test('a pattern that is slow is seen, and one that is not is left alone', () => {
  const slow = (source: string) =>
    slowFlood({ source, flags: '' }, PATTERN_FLOOD_LENGTH, PATTERN_MS_MAX);
  assert.match(slow('\\s+$') ?? '', /" "|\\n/);
  assert.ok(slow('<think>.*</think>x') !== null);
  assert.ok(slow('(a+)+$') !== null);
  assert.equal(slow('^\\s*[0-9]+$'), null);
  assert.equal(slow('(?<!\\s)\\s+$'), null);
});

test('every pattern of the tree takes time in proportion to the text', () => {
  const files = readTree(sourcePath()).filter(
    ({ path }) => path.endsWith('.ts') && !isTest(path) && !TEMPLATES.test(path),
  );
  const patterns = files.flatMap(({ path, text }) => patternsIn(path, text));
  assert.ok(patterns.length > 300, `${patterns.length} patterns`);
  const slow = patterns.flatMap(pattern => {
    const flood = slowFlood(pattern, PATTERN_FLOOD_LENGTH, PATTERN_MS_MAX);
    const { path, line, source, flags } = pattern;
    return flood === null ? [] : [`${path}:${line} /${source}/${flags} on ${flood}`];
  });
  assert.deepEqual(slow, []);
});

for (const [name, read] of Object.entries(READERS)) {
  test(`1 MiB of anything: ${name}`, context => {
    const slow: string[] = [];
    let worst = 0;
    let worstFlood = '';
    for (const flood of floods(READER_FLOOD_LENGTH)) {
      const ms = timeOf(() => read(flood.text), READER_MS_MAX);
      if (ms === null && isSlow(() => read(flood.text), READER_MS_MAX)) slow.push(flood.name);
      if (slow.length > 2) break;
      if ((ms ?? READER_MS_MAX) < worst) continue;
      worst = ms ?? READER_MS_MAX;
      worstFlood = flood.name;
    }
    context.diagnostic(`at most ${Math.round(worst)} ms, on ${worstFlood}`);
    assert.deepEqual(slow, []);
  });
}
