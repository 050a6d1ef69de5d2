/**
 * What comes back from a tool server, made fit to hand on: bounded, without secrets, and with the
 * many ways in which servers say "no" brought to one.
 *
 * R1: everything kept is byte for byte what the server gave; what is cut is named.
 * R2: a result is data, whatever it says.
 */
import type { ErrorCode } from '../../protocol/error-codes.ts';

export interface ToolResult {
  readonly content: readonly unknown[];
  readonly [field: string]: unknown;
}

const MESSAGE_LENGTH_MAX = 8_000;
const ITEMS_MAX = 1_000;

/** The result with at most `bytesMax` bytes of JSON; other than an object with content is no result. */
export function boundedResult(raw: unknown, bytesMax: number): ToolResult | null {
  const { content } = Object(raw);
  if (!Array.isArray(content)) return null;
  const masked: ToolResult = { ...Object(maskSecrets(raw)), content: maskSecrets(content) };
  if (content.length <= ITEMS_MAX && sizeOf(masked) <= bytesMax) return masked;
  // `structuredContent` repeats the content; where room is short the content goes first.
  const { structuredContent, _meta, content: all, ...rest } = masked;
  const items: unknown[] = [];
  let room = bytesMax - sizeOf(rest) - 512;
  for (const item of all.slice(0, ITEMS_MAX)) {
    const cut = sizeOf(item) <= room ? item : shortened(item, room);
    room -= sizeOf(cut);
    items.push(cut);
    if (cut !== item) break;
  }
  const dropped = all.length - items.length;
  if (dropped > 0) items.push({ type: 'text', text: `[${dropped} more items were left out]` });
  return { ...rest, content: items };
}

function shortened(item: unknown, room: number): unknown {
  const { type, text } = Object(item);
  if (type !== 'text' || typeof text !== 'string') {
    return { type: 'text', text: `[an item of type ${String(type)} was too large and left out]` };
  }
  // JSON may need several bytes per character: halve until it fits.
  let length = Math.min(text.length, Math.max(0, room));
  while (length > 0 && sizeOf(text.slice(0, length)) > room - 128)
    length = Math.floor(length * 0.8);
  return {
    type: 'text',
    text: `${text.slice(0, length)}\n[cut: ${text.length} characters in all]`,
  };
}

function sizeOf(value: unknown): number {
  return Buffer.byteLength(JSON.stringify(value) ?? '', 'utf8');
}

const SECRETS: readonly RegExp[] = [
  /\bgh[pousr]_[A-Za-z0-9]{30,}\b/g,
  /\bgithub_pat_[A-Za-z0-9_]{40,}\b/g,
  /\b(?:AKIA|ASIA)[A-Z0-9]{16}\b/g,
  /\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{24,}\b/g,
  /\bxox[abprs]-[A-Za-z0-9-]{10,}\b/g,
  /\bglpat-[A-Za-z0-9_-]{20,}\b/g,
  /\bAIza[A-Za-z0-9_-]{35}\b/g,
  /-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]{64,}-----END [A-Z ]*PRIVATE KEY-----/g,
];

/** A copy in which every string is without what looks like a key. */
function maskSecrets<T>(value: T): T;
function maskSecrets(value: unknown): unknown {
  if (typeof value === 'string') {
    return SECRETS.reduce((text, pattern) => text.replace(pattern, '[masked]'), value);
  }
  if (Array.isArray(value)) return value.map(item => maskSecrets(item));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, maskSecrets(item)]));
}

/** The text of a result, joined. */
export function textOf(result: ToolResult): string {
  return result.content
    .map(item => Object(item).text)
    .filter(text => typeof text === 'string')
    .join('\n')
    .slice(0, MESSAGE_LENGTH_MAX);
}

/** The one class that a server's own words of refusal fall into. */
export function refusalCode(message: string, rpcCode: number | null): ErrorCode {
  if (/\b(unknown tool|tool .{1,128} not found)\b/i.test(message)) return 'unknown_tool';
  const invalid = /input validation error|invalid arguments|-32602/i.test(message);
  if (invalid || rpcCode === -32_602) return 'invalid_arguments';
  if (/access denied|outside (the )?allowed/i.test(message)) return 'denied';
  if (/\bENOSPC\b|no space left on device/i.test(message)) return 'disk_full';
  return 'tool_failed';
}
