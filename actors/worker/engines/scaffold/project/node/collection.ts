/**
 * What a client of a Node service can do with records: the six operations, validation, lists.
 */

/** src/collection.js */
export function collectionFile(): string {
  return `/**
 * The six things a client can do with one kind of record.
 */

import { ApiError, invalid, notFound } from './errors.js';
import { readQuery, select } from './query.js';
import { validate } from './validate.js';

export class Collection {
  #entity;
  #store;
  #entities;

  /**
   * @param entity the definition of the records
   * @param entities all definitions, to find who refers to whom
   */
  constructor(entity, store, entities) {
    this.#entity = entity;
    this.#store = store;
    this.#entities = entities;
  }

  list(parameters) {
    const query = readQuery(this.#entity, parameters);
    const found = select(this.#store.all(this.#entity.collection), query);
    const items = found.slice(query.offset, query.offset + query.limit);
    return { items, total: found.length, limit: query.limit, offset: query.offset };
  }

  create(body) {
    return this.#store.insert(this.#entity.collection, this.#checked(body));
  }

  read(id) {
    const record = this.#store.get(this.#entity.collection, id);
    if (record === null) throw notFound(\`There is no \${this.#entity.label} with id \${id}.\`);
    return record;
  }

  replace(id, body) {
    this.read(id);
    return this.#store.replace(this.#entity.collection, id, this.#checked(body));
  }

  change(id, body) {
    return this.#store.replace(
      this.#entity.collection,
      id,
      this.#checked({ ...this.read(id), ...body }),
    );
  }

  remove(id) {
    this.read(id);
    this.#refuseWhenReferenced(id);
    this.#store.remove(this.#entity.collection, id);
  }

  /** Validates a body, including that every record it refers to exists. */
  #checked(body) {
    const fields = validate(this.#entity, body);
    const details = references(this.#entity)
      .filter(([name, rule]) => fields[name] !== null && !this.#exists(rule, fields[name]))
      .map(([name]) => ({ field: name, message: \`\${fields[name]} is no id of such a record\` }));
    if (details.length > 0) throw invalid(details);
    return fields;
  }

  #exists(rule, id) {
    return this.#store.get(rule.collection, id) !== null;
  }

  #refuseWhenReferenced(id) {
    for (const other of this.#entities) {
      for (const [name, rule] of references(other)) {
        if (rule.collection !== this.#entity.collection) continue;
        const holder = this.#store.all(other.collection).find(record => record[name] === id);
        if (holder === undefined) continue;
        const message = \`The \${other.label} with id \${holder.id} refers to this one.\`;
        throw new ApiError(409, 'still_referenced', message);
      }
    }
  }
}

function references(entity) {
  return Object.entries(entity.fields).filter(([, rule]) => rule.type === 'reference');
}
`;
}

/** src/validate.js */
export function validateFile(): string {
  return `/**
 * A request body against the fields of an entity.
 */

import { invalid } from './errors.js';

/**
 * @returns a record with every field of the entity, defaults filled in
 * @throws {ApiError} 422 that names every field that breaks a rule
 */
export function validate(entity, body) {
  const details = Object.keys(body)
    .filter(name => name !== 'id' && !Object.hasOwn(entity.fields, name))
    .map(name => ({ field: name, message: \`is not a field of \${entity.label}\` }));
  const record = {};
  for (const [name, rule] of Object.entries(entity.fields)) {
    const value = Object.hasOwn(body, name) ? body[name] : null;
    const message = value === null ? missing(rule) : rule.check(value);
    if (message !== null) details.push({ field: name, message });
    record[name] = value ?? rule.default;
  }
  if (details.length > 0) throw invalid(details);
  return record;
}

function missing(rule) {
  return rule.required ? 'is required' : null;
}
`;
}

/** src/query.js */
export function queryFile(): string {
  return `/**
 * The query of a list: ?limit= ?offset= ?sort= and ?<field>= for equality.
 */

import { invalid } from './errors.js';

const LIMIT_DEFAULT = 20;
const LIMIT_MAX = 100;
const WHOLE = /^\\d{1,9}$/;

/**
 * @param {URLSearchParams} parameters
 * @throws {ApiError} 422 that names every parameter that is unknown or wrong
 */
export function readQuery(entity, parameters) {
  const details = [];
  const query = { limit: LIMIT_DEFAULT, offset: 0, sort: 'id', filters: [] };
  const refuse = (field, message) => details.push({ field, message });
  for (const [name, text] of parameters) {
    if (name === 'limit') {
      query.limit = Number(text);
      if (!WHOLE.test(text) || query.limit < 1 || query.limit > LIMIT_MAX) {
        refuse(name, \`must be a whole number from 1 to \${LIMIT_MAX}\`);
      }
    } else if (name === 'offset') {
      query.offset = Number(text);
      if (!WHOLE.test(text)) refuse(name, 'must be a whole number, 0 or more');
    } else if (name === 'sort') {
      query.sort = text;
      const field = text.replace(/^-/, '');
      if (field !== 'id' && !scalar(entity, field)) refuse(name, 'must name a field to sort by');
    } else if (scalar(entity, name)) {
      const rule = entity.fields[name];
      const value = rule.parse(text);
      const message = rule.check(value);
      if (message !== null) refuse(name, message);
      query.filters.push([name, value]);
    } else {
      refuse(name, 'is not a parameter of this list');
    }
  }
  if (details.length > 0) throw invalid(details);
  return query;
}

function scalar(entity, name) {
  return Object.hasOwn(entity.fields, name) && entity.fields[name].type !== 'list';
}

/** @returns the records that pass, in order; records without the sorted field come last */
export function select(records, { filters, sort }) {
  const field = sort.replace(/^-/, '');
  const direction = sort.startsWith('-') ? -1 : 1;
  return records
    .filter(record => filters.every(([name, value]) => record[name] === value))
    .sort((a, b) => compare(a[field], b[field], direction) || a.id - b.id);
}

function compare(a, b, direction) {
  if (a === b) return 0;
  if (a === null) return 1;
  if (b === null) return -1;
  return (a < b ? -1 : 1) * direction;
}
`;
}
