/**
 * What has been understood of a request so far: things, their fields, their relations, and how
 * sure each one is.
 *
 * A draft is the one mutable value of the reader; it lives for one reading and is turned into a
 * spec by `settle.ts`.
 */

import type { FieldDraft } from './field.ts';
import type { Noun } from './noun-phrase.ts';

/**
 * `explicit`: has fields or stands in a relation; `named`: is what the service is for; `hinted`:
 * "a X app".
 */
export type Certainty = 'explicit' | 'named' | 'hinted';

export interface EntityDraft {
  readonly name: string;
  certainty: Certainty;
  readonly fields: Map<string, FieldDraft>;
}

export interface Relation {
  /** The entity whose records hold the reference. */
  readonly from: string;
  readonly to: string;
  readonly required: boolean;
}

export interface Draft {
  readonly entities: Map<string, EntityDraft>;
  readonly relations: Relation[];
  /** Places such as a library or a shop, in order of mention. */
  readonly domains: string[];
  /** Fields that were listed before it was clear whose they are. */
  readonly loose: FieldDraft[];
  /** What was last spoken of: whom "it has …" and "each with …" mean. */
  topic: readonly Noun[];
}

/** @returns a draft in which nothing is understood yet. */
export function emptyDraft(): Draft {
  return { entities: new Map(), relations: [], domains: [], loose: [], topic: [] };
}

const RANK: Record<Certainty, number> = { hinted: 0, named: 1, explicit: 2 };

/**
 * Finds or adds an entity; a second mention can only make it surer. A short name finds an earlier
 * longer one with the same last word ("posts" after "blog posts").
 */
export function mention(draft: Draft, name: string, certainty: Certainty): EntityDraft {
  const found = draft.entities.get(name) ?? longerNamed(draft, name);
  if (found !== undefined) {
    if (RANK[certainty] > RANK[found.certainty]) found.certainty = certainty;
    return found;
  }
  const entity: EntityDraft = { name, certainty, fields: new Map() };
  draft.entities.set(name, entity);
  return entity;
}

function longerNamed(draft: Draft, name: string): EntityDraft | undefined {
  return [...draft.entities.values()].find(
    entity => entity.certainty !== 'hinted' && entity.name.endsWith(`_${name}`),
  );
}

/** Adds a field; of two with one name the first stays, made required if either is. */
export function addField(entity: EntityDraft, field: FieldDraft | null): void {
  if (field === null) return;
  const known = entity.fields.get(field.name);
  if (known === undefined) entity.fields.set(field.name, field);
  else if (known.required === null)
    entity.fields.set(field.name, { ...known, required: field.required });
}

/** Adds a relation between two entities, both of which thereby become explicit. */
export function relate(draft: Draft, relation: Relation): void {
  const from = mention(draft, relation.from, 'explicit').name;
  const to = mention(draft, relation.to, 'explicit').name;
  const known = draft.relations.some(other => other.from === from && other.to === to);
  if (!known) draft.relations.push({ from, to, required: relation.required && from !== to });
}
