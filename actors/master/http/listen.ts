/**
 * Listening: on the configured port, or, where nobody asked for that very port, on the next free
 * one, which is said aloud and told to the supervisor.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import type { OpenAPIHono } from '@hono/zod-openapi';
import { CodeGodError } from '../../../protocol/errors.ts';
import type { Logger } from '../../../runtime/log.ts';

const PORTS_TRIED_MAX = 32;
const PORT_MAX = 65_535;

/** Clients keep connections for their next request; closing first races with it. */
const KEEP_ALIVE_MS = 75_000;

/** Routes in front of the router; answers whether the request is one of theirs. */
export type Front = (request: IncomingMessage, response: ServerResponse) => boolean;

export interface ListenOptions {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  /** Whether somebody asked for this very port. */
  readonly isConfigured: boolean;
  readonly log: Logger;
  readonly front?: Front;
}

export interface Listening {
  readonly url: string;
  /** Closes at once; streams that are open are cut off. */
  close(): Promise<void>;
}

/** @throws CodeGodError `port_in_use`, where the port was asked for or none is free */
export async function listen(app: OpenAPIHono, options: ListenOptions): Promise<Listening> {
  const { host, port, isConfigured, log, front } = options;
  const router = getRequestListener(app.fetch);
  const serve = (request: IncomingMessage, response: ServerResponse): void => {
    // A client that goes in the middle ends its own exchange and nothing else.
    for (const side of [request, response]) {
      side.on('error', error => log.debug('http.exchange_broke', { error }));
    }
    if (front?.(request, response) !== true) void router(request, response);
  };
  const last = isConfigured || port === 0 ? port : Math.min(PORT_MAX, port + PORTS_TRIED_MAX);
  for (let candidate = port; candidate <= last; candidate++) {
    const listening = await tryListen(serve, host, candidate);
    if (listening === null) continue;
    if (candidate !== port) log.warn('http.port_taken', { port, instead: candidate });
    log.info('http.listening', { url: listening.url });
    return listening;
  }
  throw new CodeGodError('port_in_use', `the HTTP port ${port} is taken`, {
    hint: 'free it, or set http.port (CODEGOD_HTTP_PORT) to another one; 0 takes any',
  });
}

/** Null where the port is taken. */
function tryListen(
  serve: (request: IncomingMessage, response: ServerResponse) => void,
  host: string,
  port: number,
): Promise<Listening | null> {
  return new Promise((resolve, reject) => {
    const server = createServer({ keepAliveTimeout: KEEP_ALIVE_MS }, serve);
    server.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve(null);
      else reject(new CodeGodError('port_in_use', `cannot listen on ${host}: ${error.message}`));
    });
    server.listen(port, host, () => {
      const { port: actual } = server.address() as AddressInfo;
      const name = host.includes(':') ? `[${host}]` : host;
      resolve({ url: `http://${name}:${actual}`, close: () => close(server) });
    });
  });
}

function close(server: Server): Promise<void> {
  return new Promise(resolve => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
