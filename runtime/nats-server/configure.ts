/**
 * The configuration of the bus server that we start ourselves.
 *
 * C1: `sync_interval: always`. With the server's default an acknowledged message is lost when the
 *     power fails, and everything else here builds on "acknowledged means kept".
 * C2: it listens on the loopback interface unless somebody set another address; then, as its users
 *     file says (users.ts), it knows whom it lets in.
 * C3: files beside it may hold secrets, so only their owner reads them (0600).
 * C4: a client that is cut off or hangs is let go of after 9 s, so that what was on its way to it is
 *     soon tried elsewhere.
 * C5: the server lets every web page read its monitoring, which names all clients and streams. So the
 *     pages stand below a path that only the owner of this folder can know.
 * C6: left to itself the server takes three quarters of what is free at its start for its limit, and
 *     changes no stream any more where that is less than it has once promised to the streams.
 */
import { renameSync, writeFileSync } from 'node:fs';

export interface ServerConfigOptions {
  readonly host: string;
  readonly port: number;
  readonly monitoringPort: number;
  /** Where its pages stand, such as `/secret` (C5). */
  readonly monitoringPath: string;
  readonly storeDir: string;
  /** More than all streams and buckets together may hold, or none of them can be changed (C6). */
  readonly maxFileStoreBytes: number;
  /** The server writes its process id there, before it does anything else. */
  readonly pidFile: string;
  readonly serverName: string;
  /** Name of the file in the same folder that says who may connect; it is read again on SIGHUP. */
  readonly usersFile: string;
}

/** The text of the configuration file. */
export function renderConfig(options: ServerConfigOptions): string {
  const lines = [
    '# Written by Code-God at every start; changes made here are lost.',
    `include ${quote(`./${options.usersFile}`)}`,
    `server_name: ${quote(options.serverName)}`,
    `host: ${quote(options.host)}`,
    `port: ${options.port}`,
    `http: ${quote(`127.0.0.1:${options.monitoringPort}`)}`,
    `http_base_path: ${quote(options.monitoringPath)}`,
    `pid_file: ${quote(options.pidFile)}`,
    'max_payload: 1MB',
    'write_deadline: "10s"',
    'ping_interval: "3s"',
    'ping_max: 2',
    '# The shortest that the server allows: clients have been told to leave before it is stopped.',
    'lame_duck_duration: "30s"',
    'lame_duck_grace_period: "100ms"',
    'jetstream {',
    `  store_dir: ${quote(options.storeDir)}`,
    '  sync_interval: always',
    `  max_file_store: ${options.maxFileStoreBytes}`,
    '}',
  ];
  return `${lines.join('\n')}\n`;
}

/** Puts the file in place in one step, so that a server never reads half of it (C3). */
export function replaceFile(file: string, text: string): void {
  const draft = `${file}.${process.pid}.new`;
  writeFileSync(draft, text, { mode: 0o600 });
  renameSync(draft, file);
}

/** A string in the server's syntax, whose escapes are not JSON's: \\xNN instead of \\uNNNN. */
export function quote(text: string): string {
  const escaped = text.replace(/["\\]/g, '\\$&').replace(/\p{Cc}/gu, character => {
    return `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`;
  });
  return `"${escaped}"`;
}
