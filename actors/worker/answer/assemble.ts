/**
 * Makes the calls of an answer out of its envelope and its file blocks: resolves references,
 * substitutes code for placeholders, and adds the calls that the task expects but the model left
 * out, as those follow from the blocks.
 *
 * A1: a file is written with the text between its fences, or with an exact string of the envelope;
 *     where two texts claim one path and differ, nothing is written.
 * A2: every fault is collected, so that one repair prompt can name them all.
 */
import { FILES_PER_ANSWER_MAX, TOOL_CALLS_MAX } from '../../../protocol/limits.ts';
import type { ToolDescription } from '../../../protocol/mcp.ts';
import { ownsPath } from '../../../protocol/owned-paths.ts';
import { pathFault } from '../../../protocol/text.ts';
import { type AnswerCall, type AnswerContext, isLiteral, isRecord } from './answer.ts';
import { unfitFor } from './block-fit.ts';
import type { KnowsTool, RawCall } from './call-shapes.ts';
import { findElision, isPlaceholder } from './elision.ts';
import type { Envelope } from './envelope.ts';
import { knownTools, type ResolvedCall, resolveTool } from './resolve-tool.ts';

export const WRITE_TOOL = { server: 'filesystem', tool: 'write_file' } as const;
const REFERENCE_DEPTH_MAX = 16;

export interface Assembly {
  readonly calls: readonly AnswerCall[];
  readonly files: readonly string[];
  /** Files that the task owns by name and nobody wrote. */
  readonly missing: readonly string[];
  readonly faults: readonly string[];
  readonly notes: readonly string[];
}

/** What the reading found. */
export interface Material {
  readonly envelope: Envelope | null;
  /** The text of each block that has a path. */
  readonly blocks: ReadonlyMap<string, string>;
}

export function assemble(material: Material, context: AnswerContext): Assembly {
  const assembler = new Assembler(material, context);
  assembler.envelope();
  assembler.blocks();
  assembler.gitAdd();
  return assembler.result();
}

class Assembler {
  readonly #blocks: ReadonlyMap<string, string>;
  readonly #envelope: Envelope | null;
  readonly #context: AnswerContext;
  readonly #tools: readonly ToolDescription[];
  readonly #knows: KnowsTool;
  /** Text of each file that is written, by path. */
  readonly #writes = new Map<string, string>();
  /** Writes that follow from blocks; they come first, so that the envelope's calls find the files. */
  readonly #synthesized: AnswerCall[] = [];
  /** In the envelope's own order. */
  readonly #asked: AnswerCall[] = [];
  /** Paths of others that were to be written. */
  readonly #foreign = new Set<string>();
  readonly #faults: string[] = [];
  readonly #notes: string[] = [];
  #missing: readonly string[] = [];

  constructor(material: Material, context: AnswerContext) {
    this.#blocks = material.blocks;
    this.#envelope = material.envelope;
    this.#context = context;
    this.#tools = context.tools;
    this.#knows = knownTools(context.tools);
  }

  envelope(): void {
    if (this.#envelope === null) return;
    this.#faults.push(...this.#envelope.faults);
    const resolved: ResolvedCall[] = [];
    for (const [index, call] of this.#envelope.calls.entries()) {
      const tool = resolveTool(call, this.#tools);
      if (typeof tool === 'string') this.#faults.push(`tool_calls[${index}]: ${tool}`);
      else resolved.push(tool);
    }
    for (const file of this.#envelope.files) this.#write(file.path, file.text);
    const open = resolved.filter(call => isWrite(call) && this.#contentOf(call) === null);
    for (const call of resolved) {
      if (isWrite(call)) this.#writeCall(call, open.length);
      else this.#other(call);
    }
    this.#looseCode(resolved);
  }

  /** Blocks that no call mentions: the write that the task expects follows from the block. */
  blocks(): void {
    for (const [path, text] of this.#blocks) {
      if (this.#writes.has(path)) continue;
      if (this.#owned(path)) this.#write(path, text);
      else this.#notes.push(`the block ${path} is not the task's and was left out`);
    }
    this.#dropForeign();
    this.#askForMissing();
  }

  /** A file too many costs nothing but a note; an answer that has no other is refused. */
  #dropForeign(): void {
    const paths = [...this.#foreign];
    if (this.#writes.size === 0) {
      const owns = this.#context.owns.join(', ');
      for (const path of paths) {
        this.#faults.push(`${path} is not yours to write; you own: ${owns}`);
      }
    } else {
      for (const path of paths) this.#notes.push(`${path} is not the task's and was left out`);
    }
  }

  /** A file that the task owns by name is a part of it, whatever the envelope says. */
  #askForMissing(): void {
    const { owns, existing } = this.#context;
    const literal = owns.filter(isLiteral);
    const isThere = (path: string): boolean =>
      this.#writes.has(path) || existing.includes(path) || isMadeByTools(path);
    const missing = literal.filter(path => !isThere(path));
    if (this.#writes.size === 0 || missing.length === 0) return;
    this.#missing = missing;
  }

  /** `git_add` follows from the files as well. */
  gitAdd(): void {
    const wanted = this.#context.mcp_tools.some(name => /(?:^|[._/:])git_add$/.test(name));
    if (!wanted || this.#writes.size === 0) return;
    if (this.#asked.some(call => call.tool === 'git_add')) return;
    const call: RawCall = {
      server: 'git',
      tool: 'git_add',
      arguments: { repo_path: '.', files: [...this.#writes.keys()] },
    };
    const resolved = resolveTool(call, this.#tools);
    if (typeof resolved !== 'string') this.#asked.push(resolved);
  }

  result(): Assembly {
    const files = [...this.#writes.keys()];
    const calls = [...this.#synthesized, ...this.#asked.map(call => this.#withoutForeign(call))];
    if (files.length > FILES_PER_ANSWER_MAX) {
      this.#faults.push(`${files.length} files; at most ${FILES_PER_ANSWER_MAX}`);
    }
    if (calls.length > TOOL_CALLS_MAX) {
      this.#faults.push(`${calls.length} tool calls; at most ${TOOL_CALLS_MAX}`);
    }
    return { calls, files, missing: this.#missing, faults: this.#faults, notes: this.#notes };
  }

  /** What was not written cannot be staged. */
  #withoutForeign(call: AnswerCall): AnswerCall {
    const { files } = call.arguments;
    if (call.tool !== 'git_add' || !Array.isArray(files)) return call;
    const kept = files.filter(path => typeof path !== 'string' || !this.#foreign.has(path));
    return { ...call, arguments: { ...call.arguments, files: kept } };
  }

  #writeCall(call: ResolvedCall, openWrites: number): void {
    const path = call.arguments['path'];
    if (typeof path !== 'string') {
      this.#faults.push(`a ${call.tool} call has no \`path\``);
      return;
    }
    const content = this.#contentOf(call);
    const block = this.#blocks.get(tidyPath(path));
    if (content !== null) {
      if (block !== undefined && !sameText(block, content)) {
        this.#faults.push(`${path} is given twice, as a block and in the call, and they differ`);
        return;
      }
      this.#write(path, block ?? content, call);
      return;
    }
    const reference = referenceOf(call.arguments['content']);
    const code = openWrites === 1 ? (this.#envelope?.code ?? null) : null;
    const text =
      (reference === null ? undefined : this.#blocks.get(tidyPath(reference))) ?? block ?? code;
    if (text !== null && text !== undefined) this.#write(path, text, call);
    else this.#faults.push(this.#missingText(path, reference));
  }

  /** The text of a write call where it holds one itself. */
  #contentOf(call: ResolvedCall): string | null {
    const content = call.arguments['content'];
    if (typeof content !== 'string' || referenceOf(content) !== null) return null;
    // An empty file is a file, where it is said in so many words and nothing else claims it.
    const path = call.arguments['path'];
    const claimed = typeof path === 'string' && this.#blocks.has(tidyPath(path));
    if (content === '' && !claimed && (this.#envelope?.code ?? null) === null) return content;
    return isPlaceholder(content) ? null : content;
  }

  #missingText(path: string, reference: string | null): string {
    const have = [...this.#blocks.keys()].join(', ');
    const blocks = have === '' ? 'there is no file block' : `the file blocks are: ${have}`;
    return `the content of ${reference ?? path} is missing; ${blocks}`;
  }

  #other(call: ResolvedCall): void {
    const args = this.#resolved(call.arguments, 0);
    if (isRecord(args)) this.#asked.push({ ...call, arguments: args });
  }

  #resolved(value: unknown, depth: number): unknown {
    if (depth > REFERENCE_DEPTH_MAX) return value;
    if (Array.isArray(value)) return value.map(item => this.#resolved(item, depth + 1));
    if (!isRecord(value)) return value;
    if (Object.keys(value).length === 1 && typeof value['$file'] === 'string') {
      const text = this.#blocks.get(tidyPath(value['$file']));
      if (text === undefined) this.#faults.push(this.#missingText('', value['$file']));
      return text ?? '';
    }
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) => [key, this.#resolved(item, depth + 1)]),
    );
  }

  /** `code` of the older shape, where no call took it. */
  #looseCode(calls: readonly ResolvedCall[]): void {
    const code = this.#envelope?.code ?? null;
    if (code === null || isPlaceholder(code)) return;
    const writes = calls.filter(isWrite);
    if (writes.length > 0) {
      const texts = writes.map(call => this.#contentOf(call)).filter(text => text !== null);
      if (texts.length === writes.length && !texts.some(text => sameText(text, code))) {
        this.#faults.push('`code` and the content of the write_file calls differ');
      }
      return;
    }
    if (this.#blocks.size > 0 || this.#writes.size > 0) return;
    const literal = this.#context.owns.filter(isLiteral);
    if (literal.length === 1 && this.#context.owns.length === 1 && literal[0] !== undefined) {
      this.#write(literal[0], code);
    } else {
      this.#faults.push('`code` is given, but not the path it belongs to');
    }
  }

  #write(givenPath: string, text: string, call?: ResolvedCall): void {
    const path = tidyPath(givenPath);
    const fault = pathFault(path);
    if (fault !== null) this.#faults.push(`the path ${JSON.stringify(givenPath)} ${fault}`);
    else if (!this.#owned(path)) {
      this.#foreign.add(path);
      return;
    }
    const unfit = unfitFor(path, text, this.#knows);
    if (unfit !== null) this.#faults.push(`what was given for ${path} ${unfit}`);
    const elision = findElision(path, text);
    if (elision !== null) this.#faults.push(`${elision}. Write the whole file`);
    const json = jsonFault(path, text);
    if (json !== null) this.#faults.push(json);
    const earlier = this.#writes.get(path);
    if (earlier !== undefined && earlier !== text) {
      this.#faults.push(`${path} is written twice with different texts`);
    }
    this.#writes.set(path, text);
    if (earlier === text) return;
    if (call !== undefined) {
      this.#asked.push({ ...call, arguments: { ...call.arguments, path, content: text } });
    } else {
      const target = writeTool(this.#tools);
      this.#synthesized.push({ ...target, arguments: { path, content: text } });
    }
  }

  #owned(path: string): boolean {
    return this.#context.owns.length === 0 || ownsPath(this.#context.owns, path);
  }
}

/** Whether a call writes a file whole. */
export const isWrite = (call: Pick<AnswerCall, 'tool'>): boolean =>
  /^(?:write|create)_file$/.test(call.tool);

function writeTool(tools: readonly ToolDescription[]): { server: string; tool: string } {
  const live = tools.find(tool => tool.name === WRITE_TOOL.tool);
  return live === undefined ? WRITE_TOOL : { server: live.server, tool: live.name };
}

const tidyPath = (path: string): string => path.trim().replace(/^(?:\.\/)+/, '');

/** Equal but for the line break at the end, which a fence always adds. */
const sameText = (one: string, other: string): boolean =>
  one === other || one.replace(/\r?\n$/, '') === other.replace(/\r?\n$/, '');

/** The path that a reference names: `{"$file": path}`, also as text. */
function referenceOf(content: unknown): string | null {
  if (isRecord(content)) {
    const path = content['$file'] ?? content['file'] ?? content['path'];
    return typeof path === 'string' ? path : null;
  }
  if (typeof content !== 'string' || content.length > 400) return null;
  const match =
    /^\s*(?:\{\s*["']?\$file["']?\s*:\s*["']([^"']+)["']\s*\}|\$file:?\s*(\S+))\s*$/.exec(content);
  return match?.[1] ?? match?.[2] ?? null;
}

/** Lock files are made by package managers; no model knows them. */
const isMadeByTools = (path: string): boolean =>
  /(?:^|\/)(?:package-lock\.json|npm-shrinkwrap\.json|yarn\.lock|pnpm-lock\.yaml|bun\.lockb?|poetry\.lock|uv\.lock|Pipfile\.lock|Cargo\.lock|go\.sum|Gemfile\.lock|composer\.lock)$/.test(
    path,
  );

/** A JSON file that is no JSON would break the whole project. */
function jsonFault(path: string, text: string): string | null {
  const name = path.split('/').at(-1) ?? '';
  if (!name.endsWith('.json') || /^(?:tsconfig|jsconfig|devcontainer|settings|launch)/.test(name)) {
    return null;
  }
  try {
    JSON.parse(text);
    return null;
  } catch (error) {
    // Expected of weak models; the sentence goes into the repair prompt.
    return `${path} is not valid JSON: ${error instanceof Error ? error.message.slice(0, 160) : ''}`;
  }
}
