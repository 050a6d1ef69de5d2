/**
 * Written-out structures inside a prompt: routes, SQL tables, JSON, brace blocks (`interface Book
 * { … }`, `model Book { … }`).
 *
 * Each block that is understood is read into the draft and cut from the text, so that prose never
 * sees it.
 */

import { addField, type Draft, mention, relate } from './draft.ts';
import { readField } from './field.ts';
import { readNoun } from './noun-phrase.ts';
import { singular } from './words.ts';

const BLOCKS_MAX = 40;
const LINES_MAX = 80;
const NOT_COLUMNS = /^\s*(?:primary|foreign|unique|constraint|check|index|key|@@)/i;

/** @returns the text without the blocks that were read. */
export function readListings(draft: Draft, text: string): string {
  return readBraces(draft, readTables(draft, readRoutes(draft, text)));
}

/** `GET /authors/{id}/books`: the plural parts of a path are collections. */
function readRoutes(draft: Draft, text: string): string {
  return text.replace(
    /\b(?:GET|POST|PUT|PATCH|DELETE)(?:\s*[,/|]\s*(?:GET|POST|PUT|PATCH|DELETE))*\s+(\/[\w/{}:<>.-]*)/g,
    (_, path: string) => {
      for (const part of path.split('/')) {
        const noun = /^[a-z][\w-]*$/i.test(part) ? readNoun(part) : null;
        if (noun?.plural && noun.name !== '') mention(draft, noun.name, 'explicit');
      }
      return ' ';
    },
  );
}

function readTables(draft: Draft, text: string): string {
  return text.replace(
    /create\s+table\s+(?:if\s+not\s+exists\s+)?["'`[]?(\w+)["'`\]]?\s*\(((?:[^()]|\([^()]*\))*)\)\s*;?/gi,
    (_, table: string, body: string) => {
      readColumns(draft, table, body);
      return '\n';
    },
  );
}

function readColumns(draft: Draft, table: string, body: string): void {
  const noun = readNoun(table.replaceAll('_', ' '));
  if (noun === null || noun.name === '') return;
  const entity = mention(draft, noun.name, 'explicit');
  for (const line of body.split(/,(?![^()]*\))|\n/).slice(0, LINES_MAX)) {
    const reference = /\breferences\s+["'`[]?(\w+)/i.exec(line)?.[1];
    const target = reference === undefined ? null : readNoun(reference.replaceAll('_', ' '));
    if (target !== null && target.name !== '') {
      relate(draft, { from: entity.name, to: target.name, required: /not\s+null/i.test(line) });
      continue;
    }
    const column = /^\s*["'`[]?(\w+)["'`\]]?\s+(.+)$/s.exec(line);
    if (column === null || NOT_COLUMNS.test(line)) continue;
    addField(entity, readField(column[1] ?? '', column[2]));
  }
}

function readBraces(draft: Draft, text: string): string {
  let rest = text;
  for (let turn = 0; turn < BLOCKS_MAX; turn++) {
    const open = rest.indexOf('{');
    if (open < 0) return rest;
    const close = closingBrace(rest, open);
    if (close < 0) return `${rest.slice(0, open)} ${rest.slice(open + 1)}`;
    const before = rest.slice(0, open);
    const block = rest.slice(open, close + 1);
    const title =
      /(?:^|\n|\b)(?:(?:interface|model|class|type|struct|entity|table|record)\s+)?["']?([\p{L}_]\w*)["']?\s*(?:[:=]\s*)?$/u.exec(
        before,
      );
    readBlock(draft, block, title?.[1] ?? '');
    rest = `${title === null ? before : before.slice(0, title.index)}\n${rest.slice(close + 1)}`;
  }
  return rest;
}

function closingBrace(text: string, open: number): number {
  let depth = 0;
  for (let index = open; index < text.length; index++) {
    if (text[index] === '{') depth++;
    else if (text[index] === '}' && --depth === 0) return index;
  }
  return -1;
}

function readBlock(draft: Draft, block: string, title: string): void {
  const value = parsedJson(block);
  if (value !== null) {
    readJson(draft, value, title);
    return;
  }
  const noun = readNoun(title.replaceAll('_', ' '));
  if (noun === null || noun.name === '') return;
  const entity = mention(draft, noun.name, 'explicit');
  for (const line of block
    .slice(1, -1)
    .split(/[,;\n]/)
    .slice(0, LINES_MAX)) {
    const part = /^\s*["']?([\p{L}_]\w*)["']?(\??)\s*:?\s*(.*)$/u.exec(line);
    if (part === null || NOT_COLUMNS.test(line)) continue;
    const note = `${part[3] ?? ''} ${part[2] === '?' ? 'optional' : ''}`;
    addField(
      entity,
      readField(part[1] ?? '', note.replace(/@\S+/g, '').replaceAll('"', ' ').trim()),
    );
  }
}

function parsedJson(block: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(block);
    return isRecord(value) ? value : null;
  } catch {
    // Not JSON: the caller reads it as a brace block instead.
    return null;
  }
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** `{"book":{"title":"string"}}` names entities; `{"title":"string"}` lists fields of the entity before it. */
function readJson(draft: Draft, value: Record<string, unknown>, title: string): void {
  const entries = Object.entries(value).slice(0, LINES_MAX);
  const nested = entries.filter(([, part]) => isRecord(part) || isStringList(part));
  if (entries.length > 0 && nested.length === entries.length) {
    for (const [name, part] of entries) readJsonEntity(draft, name, part);
    return;
  }
  const noun = readNoun(title.replaceAll('_', ' '));
  if (noun !== null && noun.name !== '') {
    readJsonEntity(draft, title, value);
    return;
  }
  for (const [name, sample] of entries) {
    const field = readField(name, noteOfSample(sample));
    if (field !== null) draft.loose.push(field);
  }
}

const isStringList = (value: unknown): value is string[] =>
  Array.isArray(value) && value.length > 0 && value.every(part => typeof part === 'string');

function readJsonEntity(draft: Draft, name: string, part: unknown): void {
  const noun = readNoun(name.replaceAll('_', ' '));
  if (noun === null || noun.name === '') return;
  const entity = mention(draft, noun.name, 'explicit');
  if (isStringList(part)) {
    for (const field of part.slice(0, LINES_MAX)) addField(entity, readField(field));
  } else if (isRecord(part)) {
    const inner = isRecord(part['fields']) ? part['fields'] : part;
    for (const [field, sample] of Object.entries(inner).slice(0, LINES_MAX)) {
      addField(entity, readField(singularId(field), noteOfSample(sample)));
    }
  }
}

const singularId = (name: string): string => (name === 'ids' ? singular(name) : name);

/** A sample value or a type name to the note a person would have written. */
function noteOfSample(sample: unknown): string {
  if (typeof sample === 'number') return Number.isInteger(sample) ? 'integer' : 'number';
  if (typeof sample === 'boolean') return 'boolean';
  if (Array.isArray(sample)) return 'list';
  return typeof sample === 'string' ? sample.slice(0, 80) : '';
}
