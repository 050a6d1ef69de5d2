/**
 * What a tool server says it can do, made fit to be shown to a model and to check arguments by.
 *
 * D1: what cannot be offered is left out and named, never dropped without a word.
 * D2: a description is shown without characters that hide what it says.
 * D3: names are unique in a server; the first of two stays.
 */
import { createHash } from 'node:crypto';
import { withoutHidden } from '../../protocol/hidden-characters.ts';
import { isDeeper } from '../../protocol/nesting.ts';

/** A tool as the server describes it; unknown fields are kept. */
export interface LiveTool {
  readonly name: string;
  readonly description?: string | undefined;
  readonly inputSchema: Readonly<Record<string, unknown>>;
  readonly annotations?: Readonly<Record<string, unknown>> | undefined;
}

export interface ToolList {
  readonly tools: readonly LiveTool[];
  /** A sentence for each thing that was left out. */
  readonly remarks: readonly string[];
}

export const TOOLS_MAX = 1_000;
const SCHEMA_LENGTH_MAX = 128 * 1024;
const SCHEMA_DEPTH_MAX = 32;
const NAME = /^[A-Za-z0-9._-]{1,128}$/;

/** D1, D2, D3. `listed` is what came in `tools`, of all pages. */
export function readTools(listed: readonly unknown[]): ToolList {
  const tools = new Map<string, LiveTool>();
  const remarks: string[] = [];
  for (const value of listed.slice(0, TOOLS_MAX)) {
    const name = nameOf(value);
    const fault = faultOf(value);
    const tool = fault === null ? shown(value as LiveTool) : null;
    const twin = tools.get(name);
    if (tool !== null && twin !== undefined && isSame(tool, twin)) continue;
    if (tool !== null && twin === undefined) tools.set(name, tool);
    else remarks.push(`the tool ${name} is not offered: it ${fault ?? 'has the name of another'}`);
  }
  if (listed.length > TOOLS_MAX) {
    remarks.push(`${listed.length - TOOLS_MAX} tools after the first ${TOOLS_MAX} are not offered`);
  }
  return { tools: [...tools.values()], remarks };
}

/** Of everything that tells a model what the tool does and takes. */
export function definitionDigest(tool: LiveTool): string {
  const { name, description = '', inputSchema } = tool;
  const text = JSON.stringify([name, description, inputSchema]);
  return createHash('sha256').update(text).digest('hex').slice(0, 32);
}

const isSame = (left: LiveTool, right: LiveTool): boolean =>
  definitionDigest(left) === definitionDigest(right);

function nameOf(value: unknown): string {
  const { name } = Object(value);
  return typeof name === 'string' ? withoutHidden(name.slice(0, 128)) : '(without a name)';
}

function faultOf(value: unknown): string | null {
  const { name, inputSchema } = Object(value);
  if (typeof name !== 'string' || !NAME.test(name)) return 'has a name that no model may say';
  if (typeof inputSchema !== 'object' || inputSchema === null || Array.isArray(inputSchema)) {
    return 'has no input schema';
  }
  if (isDeeper(inputSchema, SCHEMA_DEPTH_MAX)) return 'has a schema that is nested too deeply';
  if (JSON.stringify(inputSchema).length > SCHEMA_LENGTH_MAX)
    return 'has a schema that is too long';
  return null;
}

function shown(tool: LiveTool): LiveTool {
  const { description } = tool;
  return typeof description === 'string'
    ? { ...tool, description: withoutHidden(description) }
    : { ...tool, description: undefined };
}
