/**
 * A spec to every file of its project. The same spec always gives the same bytes.
 */

import type { ServiceSpec } from '../request/spec.ts';
import { fastapiProject } from './fastapi/fastapi-project.ts';
import { nodeProject } from './node/node-project.ts';
import type { ProjectFile } from './project-file.ts';

/** @returns all files; paths are unique. */
export function renderProject(spec: ServiceSpec): ProjectFile[] {
  return spec.stack === 'node' ? nodeProject(spec) : fastapiProject(spec);
}
