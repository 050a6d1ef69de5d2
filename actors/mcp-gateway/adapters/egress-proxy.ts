/**
 * The only way out for tool servers that fetch: a forward proxy on loopback that resolves each host
 * itself and connects to public addresses only. So a redirect, or a name that changes its address
 * between check and use, leads nowhere new.
 *
 * E1: it connects to the very address it checked.
 * E2: bounded: connections, silence on them, and bytes of one header.
 * E3: every socket has an error listener before anything is awaited: a client that resets its
 *     connection, or a server that says nonsense, ends that connection and nothing else.
 */
import { lookup } from 'node:dns/promises';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { connect, type Socket } from 'node:net';
import { pipeline } from 'node:stream';
import { CodeGodError } from '../../../protocol/errors.ts';
import { guardHost, type Resolve } from './argument-guard.ts';

export interface EgressProxy {
  /** `http://127.0.0.1:<port>` */
  readonly url: string;
  close(): Promise<void>;
}

const CONNECTIONS_MAX = 64;
const SILENCE_MS = 60_000;
const HEADER_BYTES_MAX = 16 * 1024;

/** @throws CodeGodError `tool_failed` where the name is not known. */
export const resolveHost: Resolve = async host => {
  try {
    return (await lookup(host, { all: true, verbatim: true })).map(({ address }) => address);
  } catch (cause) {
    throw new CodeGodError('tool_failed', `the host ${host.slice(0, 200)} is not known`, { cause });
  }
};

export async function startEgressProxy(resolve: Resolve = resolveHost): Promise<EgressProxy> {
  const server = createServer({ maxHeaderSize: HEADER_BYTES_MAX }, (incoming, response) => {
    response.on('error', () => response.destroy()); // E3
    incoming.on('error', () => response.destroy());
    void forward(incoming, response, resolve).catch((error: unknown) => {
      refuse(response, 403, reasonOf(error));
    });
  });
  server.maxConnections = CONNECTIONS_MAX; // E2
  server.setTimeout(SILENCE_MS);
  server.on('connect', (incoming, socket: Socket, head: Buffer) => {
    socket.on('error', () => socket.destroy()); // E3
    void tunnel(incoming, socket, head, resolve).catch((error: unknown) => {
      if (!socket.destroyed)
        socket.end(`HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain\r\n\r\n${reasonOf(error)}`);
    });
  });
  await new Promise<void>((started, failed) => {
    // Stays: a connection that cannot be accepted is told here too, at any time.
    server.on('error', failed);
    server.listen(0, '127.0.0.1', started);
  });
  server.unref();
  const address = server.address();
  const port = address !== null && typeof address === 'object' ? address.port : 0;
  return {
    url: `http://127.0.0.1:${port}`,
    close: () =>
      new Promise(closed => {
        server.close(() => closed());
        server.closeAllConnections();
      }),
  };
}

async function tunnel(incoming: IncomingMessage, socket: Socket, head: Buffer, resolve: Resolve) {
  const { hostname, port } = new URL(`http://${incoming.url ?? ''}`);
  const [address] = await guardHost(hostname, resolve);
  if (socket.destroyed) return;
  const outside = connect({ host: address ?? '', port: Number(port || 443) }); // E1
  for (const [one, other] of [
    [socket, outside],
    [outside, socket],
  ] as const) {
    one.setTimeout(SILENCE_MS, () => one.destroy());
    one.on('error', () => other.destroy()); // One side broke: the other has nobody to talk to.
    one.on('close', () => other.destroy());
  }
  outside.once('connect', () => {
    socket.write('HTTP/1.1 200 Connection Established\r\n\r\n');
    if (head.length > 0) outside.write(head);
    socket.pipe(outside).pipe(socket);
  });
}

async function forward(incoming: IncomingMessage, response: ServerResponse, resolve: Resolve) {
  const url = new URL(incoming.url ?? '');
  if (url.protocol !== 'http:') throw new CodeGodError('denied', 'only http is forwarded');
  const [address] = await guardHost(url.hostname, resolve);
  if (response.destroyed) return;
  const { 'proxy-connection': _, 'proxy-authorization': __, ...headers } = incoming.headers;
  const outside = request(
    {
      host: address, // E1
      port: Number(url.port || 80),
      path: `${url.pathname}${url.search}`,
      method: incoming.method,
      headers: { ...headers, host: url.host },
      timeout: SILENCE_MS,
    },
    answer => {
      try {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
      } catch (error) {
        outside.destroy(); // A status or a header that nobody may send on.
        refuse(response, 502, reasonOf(error));
        return;
      }
      pipeline(answer, response, () => outside.destroy());
    },
  );
  outside.on('timeout', () => outside.destroy(new Error('silence')));
  outside.on('error', error => refuse(response, 502, error.message));
  response.on('close', () => outside.destroy());
  incoming.pipe(outside);
}

/** Says no, or hangs up where an answer has begun. */
function refuse(response: ServerResponse, status: number, reason: string): void {
  if (response.headersSent || response.destroyed) response.destroy();
  else response.writeHead(status, { 'content-type': 'text/plain' }).end(reason);
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
