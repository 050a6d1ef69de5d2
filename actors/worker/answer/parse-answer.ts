/**
 * Reads a model's answer to a coding task: file blocks and an envelope, or any of the older and
 * foreign shapes (README, "What an answer may look like").
 *
 * P1: total: any string gives an Answer, in time linear in its length.
 * P2: an answer is recovered whole or refused with the reason; never half, never guessed (A1, F2, J2).
 * P3: the last envelope wins. If the last one is broken an earlier one does not take its place.
 */
import { ANSWER_LENGTH_MAX } from '../../../protocol/limits.ts';
import { ownsPath } from '../../../protocol/owned-paths.ts';
import { type Answer, type AnswerContext, isLiteral } from './answer.ts';
import { type Assembly, assemble, isWrite, type Material } from './assemble.ts';
import { NOT_A_FILE, unfitBlock, unfitFor, workIn } from './block-fit.ts';
import type { KnowsTool } from './call-shapes.ts';
import { asEnvelope, type Envelope } from './envelope.ts';
import { type FencedBlock, type Split, splitFences } from './fences.ts';
import { withPlainCalls } from './marked-calls.ts';
import { refusalIn } from './refusal.ts';
import { knownTools } from './resolve-tool.ts';
import { readTextCalls, xmlCallAt } from './text-calls.ts';
import { stripThinking } from './thinking.ts';
import {
  type JsonCandidate,
  jsonCandidates,
  parseCandidate,
  parseTolerant,
  REPAIR_LENGTH_MAX,
} from './tolerant-json.ts';

const FAULTS_SHOWN_MAX = 8;

interface Reading extends Material {
  /** Whether a JSON envelope marks the answer's end; without one nobody says that it is whole. */
  readonly ended: boolean;
  readonly faults: readonly string[];
}

export function parseAnswer(raw: string, context: AnswerContext): Answer {
  if (raw.length > ANSWER_LENGTH_MAX) return invalid(['the answer is too long']);
  const thought = stripThinking(raw);
  const text = withPlainCalls(thought.text.replace(/^\uFEFF/, ''));
  if (text.trim() === '') {
    if (context.finish === 'length') return cutOff();
    return invalid([raw.trim() === '' ? 'the answer is empty' : 'the answer holds only reasoning']);
  }
  const reading = readAnswer(text, context);
  const { envelope } = reading;
  if (thought.unclosed && !endsWithEnvelope(text, reading)) {
    return context.finish === 'length'
      ? cutOff()
      : invalid(['the reasoning is not closed; give the answer without <think>']);
  }
  if (context.finish !== 'stop' && !reading.ended) {
    if (context.finish === 'length') return cutOff();
    return invalid(['the answer repeats itself without end']);
  }
  if (envelope !== null && !envelope.success) {
    const { reason, summary, needs } = envelope;
    return { kind: 'refusal', reason, summary: summary || 'no reason given', needs };
  }
  return finish(text, reading, context);
}

function finish(text: string, reading: Reading, context: AnswerContext): Answer {
  if (reading.envelope === null && reading.blocks.size === 0 && reading.faults.length === 0) {
    const refusal = refusalIn(text);
    if (refusal !== null) return { kind: 'refusal', reason: 'other', summary: refusal, needs: [] };
    return invalid(['there is neither a file block with its path above it nor a JSON envelope']);
  }
  const assembly = assemble(reading, context);
  const { calls, files, missing, notes } = assembly;
  const faults = [...reading.faults, ...assembly.faults];
  if (missing.length > 0)
    return incomplete(assembly, [...faults, ...notes], faults.length === 0, context);
  if (faults.length > 0) return invalid([...faults, ...notes]);
  const aside = notes.length > 0 ? ` (${notes.join('; ')})` : '';
  if (calls.length === 0) {
    return invalid([`there is no file and no tool call to carry out${aside}`]);
  }
  const did = files.length > 0 ? `wrote ${files.join(', ')}` : 'called tools';
  const summary = (reading.envelope?.summary || did).slice(0, 3_000);
  return { kind: 'work', summary: `${summary}${aside}`.slice(0, 4_000), calls, files, notes };
}

function invalid(faults: readonly string[]): Answer {
  const unique = [...new Set(faults)];
  const shown = unique.slice(0, FAULTS_SHOWN_MAX).map(fault => `- ${fault}`);
  const more = unique.length - shown.length;
  return {
    kind: 'invalid',
    error: [...shown, ...(more > 0 ? [`- and ${more} more`] : [])].join('\n').slice(0, 8_000),
  };
}

/** Files that are right need not be written once more, where nothing else is wrong. */
function incomplete(
  { calls, files, missing }: Assembly,
  faults: readonly string[],
  isRight: boolean,
  { owns }: AnswerContext,
): Answer {
  const lack = `these files are missing: ${missing.join(', ')}`;
  if (!isRight) {
    return invalid([...faults, `${lack}. Give all files of the task: ${owns.join(', ')}`]);
  }
  const answer = invalid([
    `${lack}. Give only those, each one whole: ${files.join(', ')} are right and kept`,
    ...faults,
  ]);
  return answer.kind === 'invalid' ? { ...answer, kept: calls.filter(isWrite) } : answer;
}

const cutOff = (): Answer => ({
  kind: 'truncated',
  error: 'the answer was cut off before its end',
});

/** Everything an answer holds, before anything of it is believed. */
function readAnswer(text: string, context: AnswerContext): Reading {
  const knows = knownTools(context.tools);
  const whole = wholeEnvelope(text, knows);
  if (whole !== null) return { ...NOTHING, ...whole };
  const firstFence = text.search(/^[ \t]*(?:`{3,}|~{3,})/m);
  const xmlCall = xmlCallAt(text);
  if (xmlCall !== -1 && (firstFence === -1 || xmlCall < firstFence)) {
    return fromTextCalls(text, knows);
  }
  const split = splitFences(text, path => ownsPath(context.owns, path));
  const faults: string[] = [];
  const blocks = collectBlocks(split, context, faults);
  const found = lastEnvelope(split, blocks, { context, knows });
  if (found.fault !== null) faults.push(found.fault);
  const unclosed = split.blocks.some(block => !block.closed && block.heading !== null);
  if (found.envelope !== null || faults.length > 0) {
    const ended = found.ended && !unclosed;
    return { envelope: found.envelope, blocks, faults, ended };
  }
  const calls = fromTextCalls(withoutFiles(split), knows);
  if (calls.envelope !== null || calls.faults.length > 0) return { ...calls, blocks };
  if (blocks.size > 0) return { ...NOTHING, blocks };
  return { ...NOTHING, ...singleBlock(split, context, knows) };
}

const NOTHING: Reading = { envelope: null, blocks: new Map(), faults: [], ended: false };

/** The whole answer is JSON: the older shape, or nothing but calls. */
function wholeEnvelope(text: string, knows: KnowsTool): Partial<Reading> | null {
  if (!/^\s*[{[]/.test(text)) return null;
  const parsed = parseTolerant(text, { repair: false });
  const envelope = parsed.ok ? workIn(parsed.value, knows) : null;
  return envelope === null ? null : { envelope, ended: true };
}

function fromTextCalls(text: string, knows: KnowsTool): Reading {
  const { calls, faults } = readTextCalls(text, knows);
  const envelope = calls.length === 0 ? null : asEnvelope({ success: true, tool_calls: calls });
  return { ...NOTHING, envelope, faults };
}

/** The answer without the blocks that are files. */
function withoutFiles({ prose, blocks }: Split): string {
  const parts = [...prose, ...blocks.filter(block => block.heading === null)];
  return parts
    .sort((one, other) => one.at - other.at)
    .map(part => part.text)
    .join('\n');
}

/** The text of every block that has a path. */
function collectBlocks(
  split: Split,
  context: AnswerContext,
  faults: string[],
): Map<string, string> {
  const blocks = new Map<string, string>();
  for (const block of split.blocks) {
    const heading = block.heading ?? ownedComment(block, context);
    if (heading === null) continue;
    const name = JSON.stringify(heading.path);
    if (heading.kind === 'fault') faults.push(`the path ${name} ${heading.fault}`);
    else if (!block.closed) faults.push(`the block of ${heading.path} is not closed`);
    else if (block.doubt !== null) faults.push(`the block of ${heading.path} ${block.doubt}`);
    else if ((blocks.get(heading.path) ?? block.text) !== block.text) {
      faults.push(`there are two different blocks of ${heading.path}`);
    } else blocks.set(heading.path, block.text);
  }
  return blocks;
}

/** A path in a comment counts only where it is one of the task's own. */
function ownedComment(block: FencedBlock, context: AnswerContext): FencedBlock['comment'] {
  const { comment } = block;
  return comment?.kind === 'path' && ownsPath(context.owns, comment.path) ? comment : null;
}

interface Found {
  readonly envelope: Envelope | null;
  readonly fault: string | null;
  /** Whether the envelope is one that ends an answer; calls alone may be followed by more. */
  readonly ended: boolean;
}

interface Believed {
  readonly context: AnswerContext;
  readonly knows: KnowsTool;
}

/** The last JSON that is, or was meant to be, an envelope (P3); without one, all calls that stand alone. */
function lastEnvelope(split: Split, blocks: Map<string, string>, believed: Believed): Found {
  const { knows } = believed;
  const candidates = envelopeCandidates(split, blocks, believed);
  const torn = candidates.find(
    candidate => !candidate.complete && beginsAsEnvelope(candidate, knows),
  );
  // What stands complete inside a torn envelope is a part of it, not an answer.
  if (torn !== undefined) return tornEnvelope(torn, knows);
  candidates.sort((one, other) => other.at - one.at);
  const lone: Envelope[] = [];
  let envelope: Envelope | null = null;
  let repairable = REPAIR_LENGTH_MAX;
  for (const candidate of candidates) {
    const repair = candidate.complete && candidate.text.length <= repairable;
    const parsed = parseCandidate(candidate, repair);
    if (repair && !(parsed.ok && parsed.exact)) repairable -= candidate.text.length;
    if (parsed.ok) {
      const marked = asEnvelope(parsed.value);
      const work = marked ?? workIn(parsed.value, knows);
      if (work === null) continue;
      if (marked === null || Array.isArray(parsed.value)) lone.unshift(work);
      else envelope ??= marked;
    } else if (envelope === null && isMeant(candidate, knows)) {
      return { ...NO_ENVELOPE, fault: `the JSON envelope is not valid: ${parsed.error}` };
    }
  }
  if (envelope === null) return { ...NO_ENVELOPE, envelope: joined(lone) };
  const does = envelope.calls.length + envelope.files.length > 0 || envelope.code !== null;
  const calls = joined(lone);
  if (does || !envelope.success || calls === null) return { envelope, fault: null, ended: true };
  return { envelope: { ...calls, summary: envelope.summary }, fault: null, ended: true };
}

const NO_ENVELOPE: Found = { envelope: null, fault: null, ended: false };

function tornEnvelope(torn: JsonCandidate, knows: KnowsTool): Found {
  const parsed = parseCandidate(torn, false);
  const envelope = parsed.ok ? workIn(parsed.value, knows) : null;
  const error = parsed.ok ? 'it is not an envelope' : parsed.error;
  const fault = envelope === null ? `the JSON envelope is not valid: ${error}` : null;
  return { envelope, fault, ended: envelope !== null };
}

/** Several lists of calls as one. */
function joined(lone: readonly Envelope[]): Envelope | null {
  const [first] = lone;
  if (first === undefined) return null;
  return {
    ...first,
    calls: lone.flatMap(({ calls }) => calls),
    files: lone.flatMap(({ files }) => files),
    faults: lone.flatMap(({ faults }) => faults),
  };
}

/** JSON in the prose, and blocks of JSON that are no files; what is a call leaves the blocks. */
function envelopeCandidates(
  split: Split,
  blocks: Map<string, string>,
  { context, knows }: Believed,
): JsonCandidate[] {
  const candidates = split.prose.flatMap(part => jsonCandidates(part.text, part.at));
  for (const block of split.blocks) {
    const text = block.text.replace(DIALECT_MARK, '');
    if (!/^\s*[{[]/.test(text)) continue;
    const path = block.heading?.kind === 'path' ? block.heading.path : null;
    if (path !== null && blocks.has(path)) {
      const asks = ownsPath(context.owns, path)
        ? unfitFor(path, block.text, knows) === NOT_A_FILE
        : /"tool_calls"/.test(block.text) || unfitFor(path, block.text, knows) === NOT_A_FILE;
      if (!asks) continue;
      blocks.delete(path);
    } else if (path !== null && ownsPath(context.owns, path)) continue;
    candidates.push({ text, at: block.at, complete: block.closed, fenced: true });
  }
  return candidates;
}

/** What some models put before every call. */
const DIALECT_MARK = /^\s*(?:<\|python_tag\|>|\[TOOL_CALLS\])/;

const ENVELOPE_START =
  /^\s*\{\s*["']?(?:success|summary|tool_calls|code|fixed_code|component_code|files)["']?\s*:/;
const CALL_START =
  /^\s*(?:\[\s*)?\{\s*["'](?:tool|tool_name|name|function)["']\s*:\s*["']([^"'\s]{1,128})["']/;

function beginsAsEnvelope(candidate: JsonCandidate, knows: KnowsTool): boolean {
  const start = candidate.text.slice(0, 200);
  return ENVELOPE_START.test(start) || knows(CALL_START.exec(start)?.[1] ?? '');
}

const isMeant = (candidate: JsonCandidate, knows: KnowsTool): boolean =>
  /["']?(?:success|tool_calls)["']?\s*:/.test(candidate.text) ||
  knows(CALL_START.exec(candidate.text.slice(0, 200))?.[1] ?? '');

/** Blocks among which the one is looked for. */
const SINGLE_AMONG_MAX = 64;

/** One block of code without a path, for a task that owns exactly one file. */
function singleBlock(split: Split, context: AnswerContext, knows: KnowsTool): Partial<Reading> {
  const [path] = context.owns;
  if (context.owns.length !== 1 || path === undefined || !isLiteral(path)) return {};
  if (split.blocks.length > SINGLE_AMONG_MAX) return {};
  const judged = split.blocks.map(block => ({ block, unfit: unfitSingle(path, block, knows) }));
  const [only, second] = judged.filter(({ unfit }) => unfit === null);
  if (only === undefined) {
    const [reason] = judged.map(({ unfit }) => unfit).filter(unfit => unfit !== null);
    return reason === undefined ? {} : { faults: [`a block without a path ${reason}`] };
  }
  const { block } = only;
  if (second !== undefined || !block.closed || block.doubt !== null) return {};
  return { blocks: new Map([[path, block.text]]) };
}

function unfitSingle(path: string, block: FencedBlock, knows: KnowsTool): string | null {
  const other = block.comment?.kind === 'path' ? block.comment.path : null;
  const name = other?.split('/').at(-1);
  if (name !== undefined && !path.endsWith(name)) return `is for ${other}, not for ${path}`;
  return unfitBlock(path, block, knows);
}

/** Whether an answer behind unclosed reasoning shows its end: an envelope as the last thing. */
function endsWithEnvelope(text: string, reading: Reading): boolean {
  return reading.envelope !== null && /[}\]]\s*(?:`{3,9}|~{3,9})?$/.test(text.trimEnd().slice(-64));
}
