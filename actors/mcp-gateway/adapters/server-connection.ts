/**
 * One living tool server: started, greeted, asked for its tools. The handshake is a real
 * `initialize`; a process that merely runs is not ready.
 *
 * H1: the handshake and the tool list have one time limit together.
 * H2: a server that stops answering even a ping is killed, so that the next call finds a new one.
 */
import type { Clock } from '../../../runtime/clock.ts';
import { type LiveTool, readTools, TOOLS_MAX, type ToolList } from '../tool-definitions.ts';
import { RpcFailure, type RpcProgram, type StdioRpc, startRpc } from './stdio-rpc.ts';

export interface ServerConnection {
  readonly rpc: StdioRpc;
  readonly tools: readonly LiveTool[];
  /** What of its list could not be taken, a sentence each. */
  readonly remarks: readonly string[];
  readonly version: string | null;
  /** @throws RpcFailure */
  call(tool: string, args: object, limits: CallLimits): Promise<unknown>;
}

export interface CallLimits {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

const PROTOCOL_VERSION = '2025-06-18';
const KNOWN_VERSIONS = ['2025-11-25', '2025-06-18', '2025-03-26', '2024-11-05', '2024-10-07'];
export const HANDSHAKE_MS = 30_000;
const PING_MS = 5_000;
const PAGES_MAX = 50;

export interface Greeting {
  readonly rpc: StdioRpc;
  /** The connection, or a rejection; the process is then being killed. */
  readonly ready: Promise<ServerConnection>;
}

export function connect(program: RpcProgram, clock: Clock, handshakeMs = HANDSHAKE_MS): Greeting {
  const rpc = startRpc(program, clock);
  const ready = greet(rpc, clock, handshakeMs).catch((error: unknown) => {
    rpc.kill(error instanceof Error ? `handshake failed: ${error.message}` : 'handshake failed');
    throw error;
  });
  return { rpc, ready };
}

async function greet(rpc: StdioRpc, clock: Clock, handshakeMs: number): Promise<ServerConnection> {
  const deadline = clock.monotonic() + handshakeMs;
  const left = () => ({ timeoutMs: Math.max(1, deadline - clock.monotonic()) }); // H1
  const hello = await rpc.request(
    'initialize',
    {
      protocolVersion: PROTOCOL_VERSION,
      capabilities: {},
      clientInfo: { name: 'codegod', version: '1' },
    },
    left(),
  );
  const { protocolVersion, serverInfo } = Object(hello);
  if (!KNOWN_VERSIONS.includes(protocolVersion)) {
    throw new RpcFailure('refused', `it speaks protocol ${String(protocolVersion).slice(0, 40)}`);
  }
  rpc.notify('notifications/initialized', {});
  const { tools, remarks } = await listTools(rpc, left);
  const version = Object(serverInfo).version;
  return {
    rpc,
    tools,
    remarks,
    version: typeof version === 'string' ? version.slice(0, 64) : null,
    call: async (name, args, limits) => {
      try {
        return await rpc.request('tools/call', { name, arguments: args }, limits);
      } catch (error) {
        if (error instanceof RpcFailure && error.kind === 'timeout') void killIfDead(rpc); // H2
        throw error;
      }
    },
  };
}

/** All pages. A cursor that was there before would lead in a circle: it ends the list. */
async function listTools(rpc: StdioRpc, left: () => CallLimits): Promise<ToolList> {
  const listed: unknown[] = [];
  const cursors = new Set<string>();
  let cursor: string | null = null;
  let end: string | null = null;
  while (end === null) {
    const params: object = cursor === null ? {} : { cursor };
    const { tools, nextCursor } = Object(await rpc.request('tools/list', params, left()));
    if (Array.isArray(tools)) listed.push(...tools);
    if (typeof nextCursor !== 'string') break;
    if (cursors.has(nextCursor)) end = 'its pages lead in a circle';
    else if (cursors.size >= PAGES_MAX) end = `it has more than ${PAGES_MAX} pages`;
    else if (listed.length > TOOLS_MAX) end = `it has more than ${TOOLS_MAX} tools`;
    cursors.add(nextCursor);
    cursor = nextCursor;
  }
  const list = readTools(listed);
  const said = end === null ? [] : [`the list of tools was ended: ${end}`];
  return { tools: list.tools, remarks: [...said, ...list.remarks] };
}

async function killIfDead(rpc: StdioRpc): Promise<void> {
  try {
    await rpc.request('ping', {}, { timeoutMs: PING_MS });
  } catch (error) {
    // A refused ping is an answer too: the server lives.
    const dead = error instanceof RpcFailure && error.kind === 'timeout';
    if (dead) rpc.kill('did not answer a ping');
  }
}
