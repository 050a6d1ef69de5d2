/** The command line with fake actors, as a program; only tests run it. */
import { loadConfig } from '../runtime/config.ts';
import { runCli } from './program.ts';
import { fakeActors } from './supervisor/test-system.ts';

process.exitCode = await runCli(process.argv.slice(2), {
  stdout: process.stdout,
  stderr: process.stderr,
  actors: () => fakeActors(loadConfig().paths.state, ['master', 'worker']),
});
