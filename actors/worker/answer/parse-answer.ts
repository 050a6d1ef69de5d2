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
import { assemble, type Material } from './assemble.ts';
import { asEnvelope, type Envelope } from './envelope.ts';
import { type FencedBlock, type Split, splitFences } from './fences.ts';
import { refusalIn } from './refusal.ts';
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
  readonly faults: readonly string[];
}

export function parseAnswer(raw: string, context: AnswerContext): Answer {
  if (raw.length > ANSWER_LENGTH_MAX) return invalid(['the answer is too long']);
  const thought = stripThinking(raw);
  const text = thought.text.replace(/^\uFEFF/, '');
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
  const faults = [...reading.faults, ...assembly.faults];
  if (faults.length > 0) return invalid(faults);
  if (assembly.calls.length === 0) {
    const aside = assembly.notes.length > 0 ? ` (${assembly.notes.join('; ')})` : '';
    return invalid([`there is no file and no tool call to carry out${aside}`]);
  }
  const files = assembly.files.length > 0 ? `wrote ${assembly.files.join(', ')}` : 'called tools';
  const summary = (reading.envelope?.summary ?? '') || files;
  return { kind: 'work', summary: summary.slice(0, 4_000), ...pick(assembly) };
}

const pick = ({ calls, files, notes }: ReturnType<typeof assemble>) => ({ calls, files, notes });

function invalid(faults: readonly string[]): Answer {
  const unique = [...new Set(faults)];
  const shown = unique.slice(0, FAULTS_SHOWN_MAX).map(fault => `- ${fault}`);
  const more = unique.length - shown.length;
  return {
    kind: 'invalid',
    error: [...shown, ...(more > 0 ? [`- and ${more} more`] : [])].join('\n').slice(0, 8_000),
  };
}

const cutOff = (): Answer => ({
  kind: 'truncated',
  error: 'the answer was cut off before its end',
});

/** Everything an answer holds, before anything of it is believed. */
function readAnswer(text: string, context: AnswerContext): Reading {
  const whole = wholeEnvelope(text);
  if (whole !== null) return { envelope: whole, blocks: new Map(), faults: [], ended: true };
  const firstFence = text.search(/^[ \t]*(?:`{3,}|~{3,})/m);
  const xmlCall = xmlCallAt(text);
  if (xmlCall !== -1 && (firstFence === -1 || xmlCall < firstFence)) return fromTextCalls(text);

  const split = splitFences(text);
  const faults: string[] = [];
  const blocks = collectBlocks(split, context, faults);
  const found = lastEnvelope(split, blocks, context);
  if (found.fault !== null) faults.push(found.fault);
  const unclosed = split.blocks.some(block => !block.closed && block.heading !== null);
  if (found.envelope === null && blocks.size === 0 && faults.length === 0) {
    const calls = fromTextCalls(text);
    if (calls.envelope !== null || calls.faults.length > 0) return calls;
    const single = singleBlock(split, context);
    if (single !== null) return { envelope: null, blocks: single, faults, ended: false };
  }
  const ended = found.envelope !== null && !unclosed;
  return { envelope: found.envelope, blocks, faults, ended };
}

/** The older shape: the whole answer is one JSON object. */
function wholeEnvelope(text: string): Envelope | null {
  if (!/^\s*[{[]/.test(text)) return null;
  const parsed = parseTolerant(text, { repair: false });
  return parsed.ok ? asEnvelope(parsed.value) : null;
}

function fromTextCalls(text: string): Reading {
  const { calls, faults } = readTextCalls(text);
  const envelope = calls.length === 0 ? null : asEnvelope({ success: true, tool_calls: calls });
  return { envelope, blocks: new Map(), faults, ended: false };
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
}

/** The last JSON that is, or was meant to be, an envelope (P3). */
function lastEnvelope(split: Split, blocks: Map<string, string>, context: AnswerContext): Found {
  const candidates = split.prose.flatMap(part => jsonCandidates(part.text, part.at));
  for (const block of split.blocks) {
    if (!/^\s*[{[]/.test(block.text)) continue;
    const path = block.heading?.kind === 'path' ? block.heading.path : null;
    if (path !== null && (ownsPath(context.owns, path) || !/"tool_calls"/.test(block.text)))
      continue;
    if (path !== null) blocks.delete(path);
    candidates.push({ text: block.text, at: block.at, complete: block.closed, fenced: true });
  }
  const torn = candidates.find(candidate => !candidate.complete && beginsAsEnvelope(candidate));
  // What stands complete inside a torn envelope is a part of it, not an answer.
  if (torn !== undefined) {
    const parsed = parseCandidate(torn, false);
    const envelope = parsed.ok ? asEnvelope(parsed.value) : null;
    const error = parsed.ok ? 'it is not an envelope' : parsed.error;
    return {
      envelope,
      fault: envelope === null ? `the JSON envelope is not valid: ${error}` : null,
    };
  }
  candidates.sort((one, other) => other.at - one.at);
  let repairable = REPAIR_LENGTH_MAX;
  for (const candidate of candidates) {
    const repair = candidate.complete && candidate.text.length <= repairable;
    const parsed = parseCandidate(candidate, repair);
    if (repair && !(parsed.ok && parsed.exact)) repairable -= candidate.text.length;
    if (parsed.ok) {
      const envelope = asEnvelope(parsed.value);
      if (envelope !== null) return { envelope, fault: null };
    } else if (meantAsEnvelope(candidate)) {
      return { envelope: null, fault: `the JSON envelope is not valid: ${parsed.error}` };
    }
  }
  return { envelope: null, fault: null };
}

const beginsAsEnvelope = (candidate: JsonCandidate): boolean =>
  /^\s*\{\s*["']?(?:success|summary|tool_calls|code|fixed_code|component_code|files)["']?\s*:/.test(
    candidate.text.slice(0, 200),
  );

const meantAsEnvelope = (candidate: JsonCandidate): boolean =>
  /["']?(?:success|tool_calls)["']?\s*:/.test(candidate.text);

/** One block of code without a path, for a task that owns exactly one file. */
function singleBlock(split: Split, context: AnswerContext): Map<string, string> | null {
  const [path] = context.owns;
  if (context.owns.length !== 1 || path === undefined || !isLiteral(path)) return null;
  const code = split.blocks.filter(block => !/^(?:sh|bash|shell|console|text)\b/.test(block.info));
  const [block] = code;
  if (code.length !== 1 || block === undefined || !block.closed || block.doubt !== null)
    return null;
  return new Map([[path, block.text]]);
}

/** Whether an answer behind unclosed reasoning shows its end: an envelope as the last thing. */
function endsWithEnvelope(text: string, reading: Reading): boolean {
  return reading.envelope !== null && /[}\]]\s*(?:`{3,}|~{3,})?\s*$/.test(text);
}
