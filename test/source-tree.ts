/**
 * What tests need of the checkout, so that they run alike from the sources and from dist/: files that
 * are not compiled lie only in the sources, and programs of ours run in the form that the test has.
 */
import { join } from 'node:path';
import { modulePath, packageRoot, sourceLoader } from '../runtime/paths.ts';

/** A fixture, a README or another file that is not compiled, by its path from the root. */
export function sourcePath(...segments: readonly string[]): string {
  return join(packageRoot(), ...segments);
}

/** What Node is given to run a module of ours; `source` as for `modulePath`. */
export function programOf(source: string): readonly string[] {
  return [...sourceLoader(), modulePath(source)];
}
