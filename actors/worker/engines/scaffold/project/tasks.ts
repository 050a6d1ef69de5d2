/**
 * The ids of the tasks that belong to one entity. Files and plan use the same ones.
 */

import type { Entity } from '../request/spec.ts';
import { kebab } from '../request/words.ts';

const ID_CHARS_MAX = 40;

/** The task that writes an entity's definition. */
export function entityTask(entity: Entity): string {
  return `entity-${kebab(entity.name)}`.slice(0, ID_CHARS_MAX);
}

/** The task that writes an entity's tests. */
export function entityTestsTask(entity: Entity): string {
  return `tests-${kebab(entity.name)}`.slice(0, ID_CHARS_MAX);
}
