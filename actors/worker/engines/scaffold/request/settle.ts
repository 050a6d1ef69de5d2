/**
 * A draft to the entities of a spec: what is unsure is dropped, what is missing is filled in from
 * the lexicon, references are resolved, and every name and cycle is made safe (S1–S3 in
 * `spec.ts`).
 */

import type { Draft, EntityDraft, Relation } from './draft.ts';
import { addField, mention, relate } from './draft.ts';
import { type FieldDraft, readField } from './field.ts';
import { DOMAINS, JOINS, USUAL_FIELDS } from './lexicon.ts';
import { safeEntityName, safeFieldName } from './reserved.ts';
import { ENTITIES_MAX, type Entity, FIELDS_MAX, type Field } from './spec.ts';
import { plural, singular } from './words.ts';

/** A field of such a name tells one record from another. */
const NAMING_WORDS = /^(?:name|title|label|subject|full_name|first_name|username)$/;
/** A text of such a name does not. */
const WEAK_WORDS = /(?:^|_)(?:status|state|type|kind|category|genre|color|colour|note|comment)$/;

/**
 * @returns the entities, and sentences about what was cut; no entities when nothing to keep was
 * named.
 */
export function settle(draft: Draft): { entities: Entity[]; notes: string[] } {
  const notes: string[] = [];
  chooseEntities(draft);
  const chosen = [...draft.entities.values()];
  for (const entity of chosen) if (entity.fields.size === 0) fillIn(draft, entity);
  for (const entity of chosen) joinOthers(draft, entity);
  for (const entity of chosen) refer(draft, entity);
  for (const entity of chosen) {
    const refers = draft.relations.some(relation => relation.from === entity.name);
    if (entity.fields.size === 0 && !refers) fillIn(draft, entity);
  }
  const kept = chosen.slice(0, ENTITIES_MAX);
  if (chosen.length > kept.length) {
    const cut = chosen.slice(ENTITIES_MAX).map(entity => entity.name);
    notes.push(`Only the first ${ENTITIES_MAX} entities are built; left out: ${cut.join(', ')}.`);
  }
  const entities = named(
    kept,
    acyclic(draft.relations, new Set(kept.map(entity => entity.name))),
    notes,
  );
  return { entities, notes };
}

/** Keeps the surest mentions: hints and places count only when nothing surer was said. */
function chooseEntities(draft: Draft): void {
  const withCertainty = (certainty: string): EntityDraft[] =>
    [...draft.entities.values()].filter(entity => entity.certainty === certainty);
  const explicit = withCertainty('explicit');
  const sure = explicit.length + withCertainty('named').length;
  if (sure > 0) for (const entity of withCertainty('hinted')) replaceHint(draft, entity.name);
  if (draft.entities.size === 0) {
    for (const domain of draft.domains) {
      const things = DOMAINS.get(domain.slice(domain.lastIndexOf('_') + 1)) ?? [];
      for (const name of draft.loose.length > 0 ? things.slice(0, 1) : things)
        mention(draft, name, 'named');
      if (draft.entities.size > 0) break;
    }
  }
  const main =
    [...draft.entities.values()].find(entity => entity.fields.size === 0) ??
    [...draft.entities.values()][0];
  if (draft.loose.length > 0) {
    const owner = main ?? mention(draft, 'item', 'explicit');
    for (const field of draft.loose) addField(owner, field);
  }
}

/** "An appointment booking API for doctors and patients" keeps appointments too. */
function replaceHint(draft: Draft, hint: string): void {
  draft.entities.delete(hint);
  const others = [...draft.entities.keys()];
  const joiner = hint.split('_').find(word => {
    const sides = JOINS.get(word) ?? [];
    return sides.length > 1 && sides.every(side => others.some(name => fits(name, side)));
  });
  if (joiner !== undefined) mention(draft, joiner, 'named');
}

function fillIn(draft: Draft, entity: EntityDraft): void {
  const head = entity.name.slice(entity.name.lastIndexOf('_') + 1);
  const usual = USUAL_FIELDS.get(entity.name) ?? USUAL_FIELDS.get(head);
  const joins =
    JOINS.has(entity.name) || draft.relations.some(relation => relation.from === entity.name);
  const phrases = usual ?? (joins ? ['note'] : ['name', 'description']);
  for (const phrase of phrases) {
    const match = /^([^(:]*)(?:[(:]\s*([^)]*)\)?(.*))?$/.exec(phrase);
    addField(entity, readField(match?.[1] ?? phrase, `${match?.[2] ?? ''}${match?.[3] ?? ''}`));
  }
}

/** A loan among books and members refers to both, unless the prompt already said what it joins. */
function joinOthers(draft: Draft, entity: EntityDraft): void {
  const said = draft.relations.some(relation => relation.from === entity.name);
  const sides = said ? [] : (JOINS.get(entity.name) ?? JOINS.get(lastPart(entity.name)) ?? []);
  const targets = sides
    .map(side => [...draft.entities.keys()].find(name => name !== entity.name && fits(name, side)))
    .filter(target => target !== undefined);
  for (const target of targets) {
    const reverse = draft.relations.some(
      other => other.from === target && other.to === entity.name,
    );
    if (!reverse) relate(draft, { from: entity.name, to: target, required: true });
  }
}

const lastPart = (name: string): string => name.slice(name.lastIndexOf('_') + 1);

const fits = (name: string, side: readonly string[]): boolean =>
  side.some(part => name === part || name.endsWith(`_${part}`));

/** Turns fields that name another entity ("author", "author_id", "songs") into relations. */
function refer(draft: Draft, entity: EntityDraft): void {
  for (const field of [...entity.fields.values()]) {
    const stem = field.name.replace(/_ids?$/, '');
    const one = singular(stem);
    const target = draft.entities.get(stem) ?? draft.entities.get(one);
    const plain = ['string', 'list', 'text', 'integer'].includes(field.type);
    const toSelf = target === entity && stem === field.name;
    if (target === undefined || !plain || toSelf) continue;
    entity.fields.delete(field.name);
    const many = one !== stem;
    const relation: Relation = many
      ? { from: target.name, to: entity.name, required: false }
      : { from: entity.name, to: target.name, required: field.required === true };
    relate(draft, relation);
  }
}

/** S2: a required relation that would close a circle becomes optional; one to itself always is. */
function acyclic(relations: readonly Relation[], kept: ReadonlySet<string>): Relation[] {
  const result: Relation[] = [];
  const reaches = (from: string, to: string): boolean =>
    from === to ||
    result.some(other => other.required && other.from === from && reaches(other.to, to));
  for (const relation of relations) {
    if (!kept.has(relation.from) || !kept.has(relation.to)) continue;
    result.push({
      ...relation,
      required: relation.required && !reaches(relation.to, relation.from),
    });
  }
  return result;
}

function named(
  kept: readonly EntityDraft[],
  relations: readonly Relation[],
  notes: string[],
): Entity[] {
  const names = new Map<string, string>();
  const taken = new Set<string>();
  for (const entity of kept) {
    const base = safeEntityName(entity.name);
    let name = base;
    for (let turn = 2; taken.has(name) || taken.has(plural(name)); turn++) name = `${base}_${turn}`;
    taken.add(name).add(plural(name));
    names.set(entity.name, name);
  }
  return kept.map(entity => {
    const name = names.get(entity.name) ?? entity.name;
    const references = relations
      .filter(relation => relation.from === entity.name)
      .map(relation =>
        referenceField(name, names.get(relation.to) ?? relation.to, relation.required),
      );
    const own = [...entity.fields.values()].filter(
      field => !references.some(reference => reference.name === field.name),
    );
    const room = Math.max(1, FIELDS_MAX - references.length);
    if (own.length > room) notes.push(`Only the first ${room} fields of ${name} are built.`);
    return {
      name,
      plural: pluralName(name),
      fields: [
        ...required(
          own.slice(0, room),
          references.some(field => field.required),
        ),
        ...references,
      ].slice(0, FIELDS_MAX),
    };
  });
}

/** The plural of the last word; a noun without one ("data") is its own plural. */
function pluralName(name: string): string {
  const cut = name.lastIndexOf('_') + 1;
  return name.slice(0, cut) + plural(name.slice(cut));
}

function referenceField(from: string, to: string, isRequired: boolean): Field {
  const name = from === to ? `parent_${to}_id` : `${to}_id`;
  return {
    name: safeFieldName(name),
    type: 'reference',
    required: isRequired,
    values: [],
    target: to,
    minimum: null,
    maximum: null,
  };
}

/**
 * Unless the prompt says otherwise, the field that names a record is required and the others are
 * not. A record that must refer to another needs no name unless it clearly has one.
 */
function required(drafts: readonly FieldDraft[], hasOwner: boolean): Field[] {
  const open = drafts.filter(field => field.required !== false);
  const naming =
    open.find(field => NAMING_WORDS.test(field.name)) ??
    (hasOwner
      ? undefined
      : open.find(field => field.type === 'string' && !WEAK_WORDS.test(field.name))) ??
    (hasOwner ? undefined : open.find(field => ['text', 'email', 'url'].includes(field.type)));
  return drafts.map(field => ({ ...field, required: field.required ?? field === naming }));
}
