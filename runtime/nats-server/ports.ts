/**
 * Which ports our bus server listens on: the well-known ones if they are free, else free ones that
 * are remembered, so that a restarted server is found where its clients look for it.
 *
 * A port may be taken between the choice and the server's own binding: launch.ts then chooses again.
 */
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname } from 'node:path';
import { z } from 'zod';
import { CodeGodError } from '../../protocol/errors.ts';
import { readIfThere } from '../read-if-there.ts';
import { serverFile } from './orphan.ts';

const Ports = z.object({
  port: z.int().min(1).max(65_535),
  monitoring_port: z.int().min(1).max(65_535),
});
export type Ports = z.infer<typeof Ports>;

export interface PortWishes {
  /** An explicitly configured port is taken as it is, or it is an error. */
  readonly port?: number | undefined;
  readonly monitoringPort?: number | undefined;
  /** The address that clients connect to; monitoring is on the loopback address always. */
  readonly host: string;
  /** Where the last choice is remembered. */
  readonly file: string;
}

const PREFERRED: Ports = { port: 4222, monitoring_port: 8222 };

/** Throws CodeGodError `port_in_use` when an explicitly configured port is taken. */
export async function choosePorts(wishes: PortWishes): Promise<Ports> {
  const remembered = readPorts(wishes.file) ?? PREFERRED;
  const port = await choose({
    key: 'bus.port',
    host: wishes.host,
    explicit: wishes.port,
    candidates: [remembered.port, PREFERRED.port],
    taken: null,
  });
  const monitoringPort = await choose({
    key: 'bus.monitoring_port',
    host: '127.0.0.1',
    explicit: wishes.monitoringPort,
    candidates: [remembered.monitoring_port, PREFERRED.monitoring_port],
    taken: port,
  });
  return { port, monitoring_port: monitoringPort };
}

/** Remembers the ports of a server that runs. */
export function rememberPorts(file: string, ports: Ports): void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  const draft = `${file}.new`;
  writeFileSync(draft, `${JSON.stringify(ports)}\n`);
  renameSync(draft, file);
}

/** Where the server of this folder listened last, or will want to listen first. */
export const rememberedPort = (configDir: string): number =>
  (readPorts(serverFile(configDir, 'ports')) ?? PREFERRED).port;

interface Choice {
  readonly key: string;
  readonly host: string;
  readonly explicit: number | undefined;
  readonly candidates: readonly number[];
  /** A port that is given away already. */
  readonly taken: number | null;
}

async function choose({ key, host, explicit, candidates, taken }: Choice): Promise<number> {
  if (explicit !== undefined) {
    if (explicit !== taken && (await tryPort(explicit, host)) !== null) return explicit;
    throw new CodeGodError('port_in_use', `${key}: port ${explicit} is taken by another program`, {
      hint: `free it, or leave ${key} out to have a free port chosen`,
    });
  }
  for (const candidate of candidates) {
    if (candidate !== taken && (await tryPort(candidate, host)) !== null) return candidate;
  }
  const free = await tryPort(0, host);
  if (free !== null) return free;
  throw new CodeGodError('port_in_use', `${key}: there is no free port at ${host}`);
}

/** Binds a port for an instant (0: any). Returns it, or null where that cannot be. */
function tryPort(port: number, host: string): Promise<number | null> {
  return new Promise(resolve => {
    const server = createServer();
    server.once('error', () => resolve(null));
    server.listen({ port, host, exclusive: true }, () => {
      const address = server.address();
      const bound = typeof address === 'object' && address ? address.port : port;
      server.close(() => resolve(bound));
    });
  });
}

function readPorts(file: string): Ports | null {
  const text = readIfThere(file);
  if (text === null) return null;
  try {
    return Ports.parse(JSON.parse(text));
  } catch {
    return null; // A damaged note costs a new choice of ports, nothing more.
  }
}
