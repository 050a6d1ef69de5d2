/**
 * An engine in a test that does as it is told: an HTTP server that hands each request to the test.
 * For what a real Ollama does not do on demand: break off, refuse, hold back a byte.
 */
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface EngineRequest {
  readonly path: string;
  readonly body: Readonly<Record<string, unknown>>;
  readonly response: ServerResponse;
  /** Resolves when the connection of the answer is closed, and says whether it was complete. */
  readonly closed: Promise<boolean>;
}

export interface TestEngine {
  readonly host: string;
  /** Connections that were opened so far. */
  readonly connections: number;
  onRequest(answer: (request: EngineRequest) => void): void;
  /** Closes connections nobody waits on, as a server does that restarts. */
  closeKept(): void;
  stop(): Promise<void>;
}

export async function startTestEngine(): Promise<TestEngine> {
  let answer = (_request: EngineRequest): void => {};
  let connections = 0;
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      const closed = new Promise<boolean>(resolve => {
        response.on('close', () => resolve(response.writableFinished));
      });
      const body = JSON.parse(Buffer.concat(parts).toString('utf8'));
      answer({ path: request.url ?? '', body, response, closed });
    });
  });
  server.on('connection', () => {
    connections += 1;
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  return {
    host: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get connections() {
      return connections;
    },
    onRequest(next) {
      answer = next;
    },
    closeKept: () => server.closeIdleConnections(),
    async stop() {
      server.closeAllConnections();
      await new Promise<void>(resolve => server.close(() => resolve()));
    },
  };
}
