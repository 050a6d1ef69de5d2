/**
 * Log files of supervised processes. A child writes into its file by itself, so its last words
 * outlive a killed supervisor; the supervisor only keeps the file small.
 *
 * L1  A log is at most about twice `LOG_BYTES_MAX`: the file and one older copy. Children append
 *     (O_APPEND), so a file cut short under them goes on from its new end.
 * L2  Writing and trimming never throw: where the disk is full a line is lost, not what it tells of.
 */
import {
  appendFileSync,
  closeSync,
  copyFileSync,
  mkdirSync,
  openSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
} from 'node:fs';
import { join } from 'node:path';

const LOG_BYTES_MAX = 8 * 1024 * 1024;

export function logFolder(stateFolder: string): string {
  return join(stateFolder, 'log');
}

export function logFile(stateFolder: string, name: string): string {
  return join(logFolder(stateFolder), `${name}.log`);
}

/** A descriptor that appends to the log, which is made if need be. The caller closes it. */
export function openLog(stateFolder: string, name: string): number {
  mkdirSync(logFolder(stateFolder), { recursive: true, mode: 0o700 });
  trimLog(stateFolder, name);
  return openSync(logFile(stateFolder, name), 'a', 0o600);
}

/** Appends one line of ours (L2). */
export function appendLog(stateFolder: string, name: string, line: string): void {
  try {
    appendFileSync(logFile(stateFolder, name), `${line}\n`, { mode: 0o600 });
  } catch {
    // L2: there is no better place to say that a log cannot be written.
  }
}

/** Moves the content of a log that has grown too large into `<name>.log.1` (L1, L2). */
export function trimLog(stateFolder: string, name: string, bytesMax = LOG_BYTES_MAX): void {
  const file = logFile(stateFolder, name);
  try {
    if (sizeOf(file) <= bytesMax) return;
    keepCopy(file);
    truncateSync(file, 0);
  } catch {
    // L2: the next round tries again.
  }
}

/** Without room for it there is no older copy: a log that grows on takes what others need. */
function keepCopy(file: string): void {
  try {
    copyFileSync(file, `${file}.1`);
  } catch {
    rmSync(`${file}.1`, { force: true }); // Half a copy.
  }
}

/** The last lines of a log; none where there is no log. */
export function tailLog(file: string, lines: number, fromByte = 0): string[] {
  const size = sizeOf(file);
  const start = Math.max(fromByte, size - 64 * 1024, 0);
  if (size <= start) return [];
  const buffer = Buffer.alloc(size - start);
  const descriptor = openSync(file, 'r');
  try {
    const length = readSync(descriptor, buffer, 0, buffer.length, start);
    const text = buffer.subarray(0, length).toString('utf8');
    return text
      .split('\n')
      .filter(line => line !== '')
      .slice(-lines);
  } finally {
    closeSync(descriptor);
  }
}

/** In bytes; 0 where there is no such file. */
export function sizeOf(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.size ?? 0;
}
