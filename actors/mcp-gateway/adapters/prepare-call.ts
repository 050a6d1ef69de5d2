/**
 * From what a model asked for to a call that may be fired: the tool that is meant, arguments under
 * their right names, checked against the live schema, guarded; or one clear error with what would
 * have been right.
 */
import type { ErrorCode } from '../../../protocol/error-codes.ts';
import { CodeGodError, toWireError } from '../../../protocol/errors.ts';
import type { CallRequest, ToolError } from '../../../protocol/mcp.ts';
import type { CatalogEntry } from '../catalog.ts';
import { nearestNames } from '../nearest-names.ts';
import type { LiveTool } from '../tool-definitions.ts';
import { absentToolHint, findTool, renameArguments, splitToolId } from '../tool-names.ts';
import { refusalCode } from '../tool-result.ts';
import { type Arguments, guardArguments, type Resolve } from './argument-guard.ts';
import type { ArgumentSchemas } from './argument-schemas.ts';
import { isReadOnly } from './call-effects.ts';
import type { CallLimits } from './server-connection.ts';
import { RpcFailure } from './stdio-rpc.ts';
import type { ToolServers } from './tool-servers.ts';
import type { Workspaces } from './workspace.ts';

export interface PrepareOptions {
  readonly servers: ToolServers;
  readonly workspaces: Pick<Workspaces, 'worktree'>;
  readonly schemas: ArgumentSchemas;
  readonly resolve: Resolve;
}

export interface PreparedCall {
  readonly entry: CatalogEntry;
  readonly tool: LiveTool;
  readonly args: Arguments;
  readonly readOnly: boolean;
}

export type Refused = { readonly error: ToolError };

export async function prepareCall(
  options: PrepareOptions,
  request: CallRequest,
  limits: CallLimits,
): Promise<PreparedCall | Refused> {
  const { servers } = options;
  const asked = { server: request.server, tool: request.tool };
  const { server, tool: wanted } = splitToolId(asked, servers.names);
  const entry = server === null ? undefined : servers.entry(server);
  if (server === null || entry === undefined) {
    const name = request.server || request.tool;
    return refusal('unknown_server', `there is no tool server named ${name.slice(0, 100)}`, asked, {
      did_you_mean: nearestNames(name, servers.names),
    });
  }
  const at = { server, tool: wanted };
  try {
    const live = await servers.tools(server, limits);
    const names = live.map(tool => tool.name);
    const id = findTool(server, wanted, names);
    const tool = live.find(candidate => candidate.name === id?.tool);
    if (id === null || tool === undefined) {
      const hint = absentToolHint(server, wanted);
      return refusal('unknown_tool', `${server} has no tool ${wanted.slice(0, 100)}`, at, {
        did_you_mean: nearestNames(wanted, names),
        ...(hint === null ? {} : { hint }),
      });
    }
    const readOnly = isReadOnly(entry, tool);
    const guarded = await checkedArguments(options, request, { entry, tool, implied: id.implied });
    if ('error' in guarded) return guarded;
    if (request.scope === undefined && !readOnly) {
      const message = 'outside of a build only tools without an effect may be called';
      return refusal('denied', message, { server, tool: tool.name });
    }
    return { entry, tool, args: guarded.args, readOnly };
  } catch (error) {
    if (error instanceof CodeGodError) return { error: toolError(error, at) };
    if (error instanceof RpcFailure) return { error: toolError(translated(error), at) };
    throw error;
  }
}

/** Renamed, completed, checked against the schema, then guarded. */
async function checkedArguments(
  options: PrepareOptions,
  request: CallRequest,
  call: {
    readonly entry: CatalogEntry;
    readonly tool: LiveTool;
    readonly implied: Readonly<Record<string, unknown>>;
  },
): Promise<{ readonly args: Arguments } | Refused> {
  const { entry, tool } = call;
  const worktree =
    request.scope === undefined ? null : await options.workspaces.worktree(request.scope);
  if (request.scope !== undefined && worktree === null) {
    throw new CodeGodError('not_found', 'the attempt has no open worktree');
  }
  const properties = Object(tool.inputSchema['properties']);
  const renamed = renameArguments(tool.name, { ...call.implied, ...request.arguments }, properties);
  const complete =
    entry.guard === 'git' && worktree !== null ? { repo_path: worktree, ...renamed } : renamed;
  const faults = options.schemas.faults(tool, complete);
  if (faults.length > 0) {
    const at = { server: entry.name, tool: tool.name };
    return refusal('invalid_arguments', `${tool.name}: ${faults.join('; ')}`, at, {
      expected_arguments: tool.inputSchema,
      received: shortened(request.arguments),
    });
  }
  const { resolve } = options;
  return { args: await guardArguments(complete, { guard: entry.guard, worktree, resolve }) };
}

/** A failure of the relay in the words of the wire. */
export function translated(failure: RpcFailure): CodeGodError {
  const codes: Readonly<Record<RpcFailure['kind'], ErrorCode>> = {
    refused: refusalCode(failure.message, failure.rpcCode),
    timeout: 'timeout',
    down: 'server_down',
    too_large: 'too_large',
    cancelled: 'cancelled',
  };
  return new CodeGodError(codes[failure.kind], failure.message, { cause: failure });
}

export interface ToolName {
  readonly server: string;
  readonly tool: string;
}

export const nameOf = (call: PreparedCall): ToolName => ({
  server: call.entry.name,
  tool: call.tool.name,
});

export function toolError(error: CodeGodError, at: ToolName): ToolError {
  return {
    ...toWireError(error),
    server: at.server.slice(0, 128),
    tool: at.tool,
    did_you_mean: [],
  };
}

function refusal(
  code: ErrorCode,
  message: string,
  at: ToolName,
  extra: Partial<ToolError> = {},
): Refused {
  return { error: { ...toolError(new CodeGodError(code, message), at), ...extra } };
}

const RECEIVED_LENGTH_MAX = 500;

/** The arguments as received, long texts cut: the caller knows them, the reader needs their shape. */
function shortened(args: Arguments): Arguments {
  const entries = Object.entries(args).map(([name, value]) => {
    const long = typeof value === 'string' && value.length > RECEIVED_LENGTH_MAX;
    return [name, long ? `${value.slice(0, RECEIVED_LENGTH_MAX)}…` : value];
  });
  return Object.fromEntries(entries);
}
