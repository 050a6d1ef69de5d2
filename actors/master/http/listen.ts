/**
 * Listening: on the configured port, or, where nobody asked for that very port, on the next free
 * one, which is said aloud and told to the supervisor.
 */
import { type ServerType, serve } from '@hono/node-server';
import type { OpenAPIHono } from '@hono/zod-openapi';
import { CodeGodError } from '../../../protocol/errors.ts';
import type { Logger } from '../../../runtime/log.ts';

const PORTS_TRIED_MAX = 32;
const PORT_MAX = 65_535;

export interface ListenOptions {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  /** Whether somebody asked for this very port. */
  readonly isConfigured: boolean;
  readonly log: Logger;
}

export interface Listening {
  readonly url: string;
  /** Closes at once; streams that are open are cut off. */
  close(): Promise<void>;
}

/** @throws CodeGodError `port_in_use`, where the port was asked for or none is free */
export async function listen(app: OpenAPIHono, options: ListenOptions): Promise<Listening> {
  const { host, port, isConfigured, log } = options;
  const last = isConfigured || port === 0 ? port : Math.min(PORT_MAX, port + PORTS_TRIED_MAX);
  for (let candidate = port; candidate <= last; candidate++) {
    const listening = await tryListen(app, host, candidate);
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
function tryListen(app: OpenAPIHono, host: string, port: number): Promise<Listening | null> {
  return new Promise((resolve, reject) => {
    const server = serve({ fetch: app.fetch, hostname: host, port }, ({ port: actual }) => {
      const name = host.includes(':') ? `[${host}]` : host;
      resolve({ url: `http://${name}:${actual}`, close: () => close(server) });
    });
    server.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve(null);
      else reject(new CodeGodError('port_in_use', `cannot listen on ${host}: ${error.message}`));
    });
  });
}

function close(server: ServerType): Promise<void> {
  return new Promise(resolve => {
    server.close(() => resolve());
    if ('closeAllConnections' in server) server.closeAllConnections();
  });
}
