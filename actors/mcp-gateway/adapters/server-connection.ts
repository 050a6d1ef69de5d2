/**
 * One living tool server: started, greeted, asked for its tools. The handshake is a real
 * `initialize`; a process that merely runs is not ready.
 *
 * H1: the handshake and the tool list have one time limit together.
 * H2: a server that stops answering even a ping is killed, so that the next call finds a new one.
 */
import type { Clock } from '../../../runtime/clock.ts';
import { RpcFailure, type RpcProgram, type StdioRpc, startRpc } from './stdio-rpc.ts';

/** A tool as the server describes it; unknown fields are kept. */
export interface LiveTool {
  readonly name: string;
  readonly description?: string | undefined;
  readonly inputSchema: Readonly<Record<string, unknown>>;
  readonly annotations?: Readonly<Record<string, unknown>> | undefined;
}

export interface ServerConnection {
  readonly rpc: StdioRpc;
  readonly tools: readonly LiveTool[];
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
const TOOLS_MAX = 1_000;

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
  const tools = await listTools(rpc, left);
  const version = Object(serverInfo).version;
  return {
    rpc,
    tools,
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

async function listTools(rpc: StdioRpc, left: () => CallLimits): Promise<LiveTool[]> {
  const tools: LiveTool[] = [];
  let cursor: unknown;
  for (let page = 0; page < PAGES_MAX && tools.length < TOOLS_MAX; page++) {
    const params = cursor === undefined ? {} : { cursor };
    const reply = Object(await rpc.request('tools/list', params, left()));
    if (Array.isArray(reply.tools)) tools.push(...reply.tools.filter(isTool));
    cursor = reply.nextCursor;
    if (typeof cursor !== 'string') break;
  }
  return tools.slice(0, TOOLS_MAX);
}

function isTool(value: unknown): value is LiveTool {
  const { name, inputSchema } = Object(value);
  const named = typeof name === 'string' && /^[A-Za-z0-9._-]{1,128}$/.test(name);
  return named && typeof inputSchema === 'object' && inputSchema !== null;
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
