/**
 * The way of one tool call: name, schema, guard, journal, fire, result.
 *
 * C1: a `call_id` is fired at most once in all lives of this gateway. Its intent is on the disk
 *     before it is fired, its result after; a repetition gets the result.
 * C2: where the result was lost, the effect is looked up; a tool without effect is repeated; and
 *     where neither helps the answer is `outcome_unknown`.
 * C3: what was refused before firing leaves no trace: the same id may come again, corrected.
 * C4: a `call_id` belongs to one call: the same id with another content is refused.
 */
import { createHash } from 'node:crypto';
import { access } from 'node:fs/promises';
import { dirname } from 'node:path';
import { CodeGodError } from '../../../protocol/errors.ts';
import { buildKey } from '../../../protocol/ids.ts';
import { TOOL_RESULT_BYTES_MAX } from '../../../protocol/limits.ts';
import { CallReply, type CallRequest } from '../../../protocol/mcp.ts';
import type { Journal } from '../../../runtime/journal.ts';
import { GATEWAY_KEYS } from '../../../runtime/journal-keys.ts';
import type { Logger } from '../../../runtime/log.ts';
import { createKeyedQueue } from '../keyed-queue.ts';
import { boundedResult, refusalCode, type ToolResult, textOf } from '../tool-result.ts';
import { effectOf } from './call-effects.ts';
import {
  nameOf,
  type PreparedCall,
  type PrepareOptions,
  prepareCall,
  toolError,
  translated,
} from './prepare-call.ts';
import { RpcFailure } from './stdio-rpc.ts';
import type { BuildLimits } from './tool-servers.ts';

export interface ToolCallsOptions extends PrepareOptions {
  readonly journal: Pick<Journal, 'get' | 'put'>;
  readonly log: Pick<Logger, 'info'>;
}

export type CallTool = (request: CallRequest, signal: AbortSignal) => Promise<CallReply>;

/** What the journal holds of a call. */
interface CallRecord {
  readonly state: 'fired' | 'done';
  /** Of server, tool and arguments. */
  readonly digest: string;
  /** How often it was handed to the server; never above 1 for a tool with an effect. */
  readonly fired: number;
  readonly reply: unknown;
}

/** Room for the envelope of a reply around its result. */
const REPLY_BYTES = 4_096;

/** Ids of calls begin with the number of their build; its stamp, where it has one, goes before that. */
const callKey = ({ call_id, scope }: Pick<CallRequest, 'call_id' | 'scope'>): string =>
  scope?.stamp === undefined
    ? `${GATEWAY_KEYS.calls}${call_id}`
    : `${GATEWAY_KEYS.calls}${buildKey(scope)}.${call_id}`;

/** Expected failures are replies with `ok: false`; only bugs and a full disk are thrown. */
export function createCallTool(options: ToolCallsOptions): CallTool {
  const queue = createKeyedQueue();
  // A question outside any build has no effect that would have to be remembered, nor a turn.
  return (request, signal) =>
    request.scope === undefined
      ? askOutside(options, request, signal)
      : queue.run(callKey(request), () => callOnce(options, request, signal));
}

async function askOutside(
  options: ToolCallsOptions,
  request: CallRequest,
  signal: AbortSignal,
): Promise<CallReply> {
  const limits = { timeoutMs: request.timeout_ms, signal };
  const call = await prepareCall(options, request, limits);
  if ('error' in call) return { ok: false, error: call.error, replayed: false };
  return replyOf(await fire(options, call, limits), call);
}

async function callOnce(
  options: ToolCallsOptions,
  request: CallRequest,
  signal: AbortSignal,
): Promise<CallReply> {
  const digest = digestOf([request.server, request.tool, request.arguments, request.scope]);
  const known = await recordOf(options, request);
  if (known !== null && known.digest !== digest) return differs(request); // C4
  if (known?.state === 'done') return { ...CallReply.parse(known.reply), replayed: true };
  const limits = {
    timeoutMs: request.timeout_ms,
    signal,
    ...(request.scope === undefined ? {} : { build: buildKey(request.scope) }),
  };
  const call = await prepareCall(options, request, limits);
  if ('error' in call) return { ok: false, error: call.error, replayed: false }; // C3
  const fired = known?.fired ?? 0;
  return fireOnce(options, {
    call,
    limits,
    digest,
    fired,
    key: callKey(request),
    callId: request.call_id,
  });
}

async function recordOf(options: ToolCallsOptions, request: CallRequest) {
  return ((await options.journal.get(callKey(request))) ?? null) as CallRecord | null;
}

function differs(request: CallRequest): CallReply {
  const message = `the call ${request.call_id} has been made with other content`;
  const at = { server: request.server, tool: request.tool };
  return {
    ok: false,
    error: toolError(new CodeGodError('conflict', message), at),
    replayed: false,
  };
}

interface Firing {
  readonly call: PreparedCall;
  readonly limits: BuildLimits;
  readonly digest: string;
  /** How often it was fired in earlier lives. */
  readonly fired: number;
  /** In the journal. */
  readonly key: string;
  readonly callId: string;
}

/** C1. */
async function fireOnce(options: ToolCallsOptions, firing: Firing): Promise<CallReply> {
  const { call, digest, key, callId } = firing;
  const note = (state: CallRecord['state'], fired: number, reply: CallReply | null) =>
    options.journal.put(key, { state, digest, fired, reply } satisfies CallRecord);
  const conclude = async (fired: number, fate: Fate): Promise<CallReply> => {
    const reply = replyOf(fate, call);
    await note('done', fired, reply);
    return reply;
  };
  if (firing.fired > 0 && !call.readOnly) return conclude(firing.fired, await lostFate(call)); // C2
  const fired = firing.fired + 1;
  await note('fired', fired, null);
  if (!call.readOnly) options.log.info('call.fired', { ...nameOf(call), call_id: callId });
  const fate = await fire(options, call, firing.limits);
  if (fate.kind === 'not_fired') {
    await note('fired', firing.fired, null); // It may be tried again under the same id.
    return replyOf(fate, call);
  }
  if (fate.kind !== 'lost') return conclude(fired, fate);
  return call.readOnly ? replyOf(fate, call) : conclude(fired, await lostFate(call));
}

/** What became of a call. `lost`: it was fired, and nobody knows what it did. */
type Fate =
  | { readonly kind: 'result'; readonly result: ToolResult }
  | { readonly kind: 'failed' | 'lost' | 'not_fired'; readonly error: CodeGodError };

async function fire(
  options: ToolCallsOptions,
  call: PreparedCall,
  limits: BuildLimits,
): Promise<Fate> {
  const { entry, tool, args } = call;
  try {
    if (tool.name === 'write_file') await makeParent(options, call, limits);
    const raw = await options.servers.call(entry.name, tool.name, args, limits);
    const result = boundedResult(raw, TOOL_RESULT_BYTES_MAX - REPLY_BYTES);
    if (result === null) {
      const message = 'the server answered with something that is no tool result';
      return { kind: 'failed', error: new CodeGodError('tool_failed', message) };
    }
    if (result['isError'] !== true) return { kind: 'result', result };
    const text = textOf(result) || 'the tool failed without a word';
    return { kind: 'failed', error: new CodeGodError(refusalCode(text, null), text) };
  } catch (error) {
    if (error instanceof RpcFailure) {
      const kind = error.kind === 'refused' || error.kind === 'too_large' ? 'failed' : 'lost';
      return { kind, error: translated(error) };
    }
    if (error instanceof CodeGodError) return { kind: 'not_fired', error };
    throw error;
  }
}

/** `write_file` makes no folders: they are made first, through the same server. */
async function makeParent(options: ToolCallsOptions, call: PreparedCall, limits: BuildLimits) {
  const path = call.args['path'];
  if (call.entry.guard !== 'filesystem' || typeof path !== 'string') return;
  const parent = dirname(path);
  const present = await access(parent).then(
    () => true,
    () => false, // Whatever is wrong with it, the server will say it better.
  );
  if (present) return;
  await options.servers.call(call.entry.name, 'create_directory', { path: parent }, limits);
}

/** C2. */
async function lostFate(call: PreparedCall): Promise<Fate> {
  const result = await effectOf(call.entry.name, call.tool.name, call.args);
  if (result !== null) return { kind: 'result', result };
  const message = `${call.tool.name} was interrupted, and whether it took effect is not known`;
  return { kind: 'failed', error: new CodeGodError('outcome_unknown', message) };
}

function replyOf(fate: Fate, call: PreparedCall): CallReply {
  const at = nameOf(call);
  if (fate.kind === 'result')
    return { ok: true, ...at, result: { ...fate.result }, replayed: false };
  const error = toolError(fate.error, at);
  const schema = fate.error.code === 'invalid_arguments';
  const expected = schema ? { expected_arguments: call.tool.inputSchema } : {};
  return { ok: false, error: { ...error, ...expected }, replayed: false };
}

function digestOf(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex');
}
