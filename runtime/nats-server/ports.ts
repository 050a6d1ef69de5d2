/**
 * Which ports our bus server listens on: the well-known ones if they are free, else free ones that
 * are remembered, so that a restarted server is found where its clients look for it.
 *
 * A port may be taken between the choice and the server's own binding: launch.ts then chooses again.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname } from 'node:path';
import { z } from 'zod';
import { CodeGodError } from '../../protocol/errors.ts';

const Ports = z.object({
  port: z.int().min(1).max(65_535),
  monitoring_port: z.int().min(1).max(65_535),
});
export type Ports = z.infer<typeof Ports>;

export interface PortWishes {
  /** An explicitly configured port is taken as it is, or it is an error. */
  readonly port?: number | undefined;
  readonly monitoringPort?: number | undefined;
  /** Where the last choice is remembered. */
  readonly file: string;
}

const PREFERRED: Ports = { port: 4222, monitoring_port: 8222 };

/** Throws CodeGodError `port_in_use` when an explicitly configured port is taken. */
export async function choosePorts(wishes: PortWishes): Promise<Ports> {
  const remembered = readPorts(wishes.file) ?? PREFERRED;
  const port = await choose('bus.port', wishes.port, [remembered.port, PREFERRED.port], []);
  const monitoring = await choose(
    'bus.monitoring_port',
    wishes.monitoringPort,
    [remembered.monitoring_port, PREFERRED.monitoring_port],
    [port],
  );
  return { port, monitoring_port: monitoring };
}

/** Remembers the ports of a server that runs. */
export function rememberPorts(file: string, ports: Ports): void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  const draft = `${file}.new`;
  writeFileSync(draft, `${JSON.stringify(ports)}\n`);
  renameSync(draft, file);
}

async function choose(
  key: string,
  explicit: number | undefined,
  candidates: readonly number[],
  taken: readonly number[],
): Promise<number> {
  if (explicit !== undefined) {
    if (!taken.includes(explicit) && (await tryPort(explicit)) !== null) return explicit;
    throw new CodeGodError('port_in_use', `${key}: port ${explicit} is taken by another program`, {
      hint: `free it, or leave ${key} out to have a free port chosen`,
    });
  }
  for (const candidate of candidates) {
    if (!taken.includes(candidate) && (await tryPort(candidate)) !== null) return candidate;
  }
  const free = await tryPort(0);
  if (free === null) throw new CodeGodError('port_in_use', 'no free port on the loopback address');
  return free;
}

/** Binds a port of the loopback address for an instant (0: any). Returns it, or null if taken. */
function tryPort(port: number): Promise<number | null> {
  return new Promise(resolve => {
    const server = createServer();
    server.once('error', () => resolve(null));
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => {
      const address = server.address();
      const bound = typeof address === 'object' && address ? address.port : port;
      server.close(() => resolve(bound));
    });
  });
}

function readPorts(file: string): Ports | null {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
  try {
    return Ports.parse(JSON.parse(text));
  } catch {
    return null; // A damaged note costs a new choice of ports, nothing more.
  }
}
