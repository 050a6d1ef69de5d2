/** The tools on offer, with their live schemas: all of them, or the ones asked for by name. */

import { CodeGodError } from '../../../protocol/errors.ts';
import type { ListReply, ListRequest, ToolDescription } from '../../../protocol/mcp.ts';
import type { LiveTool } from '../tool-definitions.ts';
import { findTool, splitToolId } from '../tool-names.ts';
import type { ToolServers } from './tool-servers.ts';

const LIST_TIMEOUT_MS = 20_000;
const DESCRIPTION_LENGTH_MAX = 4_096;

export async function listTools(
  servers: ToolServers,
  request: ListRequest,
  signal: AbortSignal,
): Promise<ListReply> {
  const toolsOf = async (server: string): Promise<readonly LiveTool[]> => {
    try {
      return await servers.tools(server, { timeoutMs: LIST_TIMEOUT_MS, signal });
    } catch (error) {
      // A server that is down offers nothing; why, `status` tells.
      if (error instanceof CodeGodError && error.code === 'server_down') return [];
      throw error;
    }
  };
  if (request.tools === undefined) {
    const lists = await Promise.all(
      servers.names.map(async server =>
        (await toolsOf(server)).map(tool => described(server, tool)),
      ),
    );
    return { tools: lists.flat(), unknown: [] };
  }
  const tools: ToolDescription[] = [];
  const unknown: string[] = [];
  for (const asked of request.tools) {
    const { server, tool } = splitToolId({ server: '', tool: asked }, servers.names);
    const live = server === null ? [] : await toolsOf(server);
    const id =
      server === null
        ? null
        : findTool(
            server,
            tool,
            live.map(({ name }) => name),
          );
    const found = live.find(({ name }) => name === id?.tool);
    if (server === null || found === undefined) unknown.push(asked);
    else tools.push(described(server, found));
  }
  return { tools, unknown };
}

function described(server: string, tool: LiveTool): ToolDescription {
  return {
    server,
    name: tool.name,
    description: (tool.description ?? '').slice(0, DESCRIPTION_LENGTH_MAX),
    input_schema: { ...tool.inputSchema },
  };
}
