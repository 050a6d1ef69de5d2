#!/usr/bin/env node
/** The command line's entry. Everything else is loaded when a command needs it. */
import { runCli } from './program.ts';

// `codegod logs | head`: the reader has gone, and so do we.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    process.exit(0);
  });
}

process.exitCode = await runCli(process.argv.slice(2));
