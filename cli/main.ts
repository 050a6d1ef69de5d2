#!/usr/bin/env node
/** The command line's entry. Everything else is loaded when a command needs it. */
import { EXIT } from './exit-code.ts';
import { runCli } from './program.ts';

// `codegod logs | head`: the reader has gone, and so do we. Where the disk is full, what is said or
// asked for here is lost, but a system that runs here goes on.
const lose = (error: NodeJS.ErrnoException): void => {
  if (error.code === 'EPIPE') process.exit(0);
};
process.stderr.on('error', lose);
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  lose(error);
  process.stderr.write(`codegod: the result cannot be written: ${error.message}\n`);
  process.once('exit', code => {
    if (code === EXIT.ok) process.exitCode = EXIT.failed;
  });
});

process.exitCode = await runCli(process.argv.slice(2));
