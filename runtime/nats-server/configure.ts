/**
 * The configuration of the bus server that we start ourselves.
 *
 * C1: `sync_interval: always`. With the server's default an acknowledged message is lost when the
 *     power fails, and everything else here builds on "acknowledged means kept".
 * C2: it listens on the loopback interface unless a token guards it.
 * C3: the file may hold a token, so only its owner reads it (0600).
 */
import { renameSync, writeFileSync } from 'node:fs';
import { CodeGodError } from '../../protocol/errors.ts';

export interface ServerConfigOptions {
  /** Default 127.0.0.1; anything else needs a token. */
  readonly host?: string | undefined;
  readonly port: number;
  readonly monitoringPort: number;
  readonly storeDir: string;
  /** The server writes its process id there, before it does anything else. */
  readonly pidFile: string;
  readonly serverName: string;
  /** Clients must present it; absent: anyone on this machine may connect. */
  readonly token?: string | undefined;
}

/** The text of the configuration file. Throws CodeGodError `config_invalid` where C2 is broken. */
export function renderConfig(options: ServerConfigOptions): string {
  const host = options.host ?? '127.0.0.1';
  const isLoopback = host === '127.0.0.1' || host === '::1' || host === 'localhost';
  if (!isLoopback && !options.token) {
    throw new CodeGodError('config_invalid', `bus.host: a bus at ${host} needs a token`, {
      hint: 'set bus.token (CODEGOD_NATS_TOKEN) to the same secret on all machines',
    });
  }
  const lines = [
    '# Written by Code-God at every start; changes made here are lost.',
    `server_name: ${quote(options.serverName)}`,
    `host: ${quote(host)}`,
    `port: ${options.port}`,
    `http: ${quote(`127.0.0.1:${options.monitoringPort}`)}`,
    `pid_file: ${quote(options.pidFile)}`,
    'max_payload: 1MB',
    'write_deadline: "10s"',
    '# The shortest that the server allows: clients have been told to leave before it is stopped.',
    'lame_duck_duration: "30s"',
    'lame_duck_grace_period: "100ms"',
    'jetstream {',
    `  store_dir: ${quote(options.storeDir)}`,
    '  sync_interval: always',
    '}',
  ];
  if (options.token) lines.push(`authorization { token: ${quote(options.token)} }`);
  return `${lines.join('\n')}\n`;
}

/** Puts the file in place in one step, so that a server never reads half of it (C3). */
export function writeConfig(file: string, options: ServerConfigOptions): void {
  const draft = `${file}.new`;
  writeFileSync(draft, renderConfig(options), { mode: 0o600 });
  renameSync(draft, file);
}

/** A string in the server's syntax, whose escapes are not JSON's: \\xNN instead of \\uNNNN. */
function quote(text: string): string {
  const escaped = text.replace(/["\\]/g, '\\$&').replace(/\p{Cc}/gu, character => {
    return `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`;
  });
  return `"${escaped}"`;
}
