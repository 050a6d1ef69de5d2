/**
 * The parts of a Node service that are the same whatever it keeps: errors, HTTP bodies, the store, the server.
 */

/** src/errors.js */
export function errorsFile(): string {
  return `/**
 * The one shape every failure has on the wire: { error: { code, message, details } }.
 */

export class ApiError extends Error {
  constructor(status, code, message, { details = [], headers = {} } = {}) {
    super(message);
    this.name = 'ApiError';
    this.status = status;
    this.code = code;
    this.details = details;
    this.headers = headers;
  }

  toJSON() {
    return { error: { code: this.code, message: this.message, details: this.details } };
  }
}

export function notFound(message) {
  return new ApiError(404, 'not_found', message);
}

/** @param {{ field: string, message: string }[]} details what is wrong, field by field */
export function invalid(details) {
  return new ApiError(422, 'validation_failed', 'Some values break a rule.', { details });
}
`;
}

/** src/http.js */
export function httpFile(): string {
  return `/**
 * JSON in and JSON out over node:http.
 */

import { ApiError, invalid } from './errors.js';

export const BODY_BYTES_MAX = 1024 * 1024;

const JSON_TYPE = /^application\\/(?:[\\w.-]+\\+)?json\\s*(?:;|$)/i;

/**
 * Reads a request body as a JSON object.
 * @throws {ApiError} 415, 413, 400 or 422 when it is something else
 */
export async function readObject(request) {
  if (!JSON_TYPE.test(request.headers['content-type'] ?? '')) {
    throw new ApiError(415, 'unsupported_media_type', 'Send the body as application/json.');
  }
  const value = parse(await readBytes(request));
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalid([{ field: 'body', message: 'must be a JSON object' }]);
  }
  return value;
}

async function readBytes(request) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    // An oversized body is read to its end but not kept, so that the client hears the answer.
    if (size <= BODY_BYTES_MAX) chunks.push(chunk);
  }
  if (size > BODY_BYTES_MAX) {
    throw new ApiError(413, 'body_too_large', \`A body may have \${BODY_BYTES_MAX} bytes.\`);
  }
  return Buffer.concat(chunks);
}

function parse(bytes) {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw new ApiError(400, 'malformed_json', 'The body is not valid JSON.');
  }
}

export function sendJson(response, status, value, headers = {}) {
  const body = JSON.stringify(value);
  response.writeHead(status, {
    'content-type': 'application/json; charset=utf-8',
    'content-length': Buffer.byteLength(body),
    ...headers,
  });
  response.end(body);
}
`;
}

/** src/store.js */
export function storeFile(): string {
  return `/**
 * Records by collection, in memory, saved to one JSON file.
 *
 * Every change is on disk before it counts: the whole state goes to a temporary file, which then
 * takes the place of the old one. A crash leaves either the old state or the new one. All of it is
 * synchronous, so a check followed by a change cannot be interleaved with another request.
 */

import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { dirname } from 'node:path';

const EMPTY = { nextId: 1, records: new Map() };

export class Store {
  #file;
  #collections;

  /** @param {string | null} file where to keep the records; null keeps them in memory only */
  constructor(file = null) {
    this.#file = file;
    this.#collections = file === null ? new Map() : load(file);
  }

  all(collection) {
    return [...this.#collection(collection).records.values()];
  }

  get(collection, id) {
    return this.#collection(collection).records.get(id) ?? null;
  }

  /** @returns the record with its new id */
  insert(collection, fields) {
    const { nextId, records } = this.#collection(collection);
    const record = { id: nextId, ...fields };
    this.#commit(collection, { nextId: nextId + 1, records: new Map(records).set(nextId, record) });
    return record;
  }

  replace(collection, id, fields) {
    const { nextId, records } = this.#collection(collection);
    const record = { id, ...fields };
    this.#commit(collection, { nextId, records: new Map(records).set(id, record) });
    return record;
  }

  remove(collection, id) {
    const { nextId, records } = this.#collection(collection);
    const left = new Map(records);
    left.delete(id);
    this.#commit(collection, { nextId, records: left });
  }

  #collection(name) {
    return this.#collections.get(name) ?? EMPTY;
  }

  #commit(name, collection) {
    const next = new Map(this.#collections).set(name, collection);
    if (this.#file !== null) save(this.#file, next);
    this.#collections = next;
  }
}

function load(file) {
  let text;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return new Map();
    throw error;
  }
  return new Map(
    Object.entries(JSON.parse(text)).map(([name, { next_id, records }]) => [
      name,
      { nextId: next_id, records: new Map(records.map(record => [record.id, record])) },
    ]),
  );
}

function save(file, collections) {
  const state = Object.fromEntries(
    [...collections].map(([name, { nextId, records }]) => [
      name,
      { next_id: nextId, records: [...records.values()] },
    ]),
  );
  const temporary = \`\${file}.tmp\`;
  mkdirSync(dirname(file), { recursive: true });
  const descriptor = openSync(temporary, 'w');
  try {
    writeFileSync(descriptor, JSON.stringify(state));
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
  renameSync(temporary, file);
}
`;
}

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

/** src/app.js */
export function appFile(): string {
  return `/**
 * The HTTP face of the service: which path leads to which collection.
 */

import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { Collection } from './collection.js';
import { entities } from './entities.js';
import { ApiError, notFound } from './errors.js';
import { readObject, sendJson } from './http.js';

const CONTRACT = JSON.parse(readFileSync(new URL('../openapi.json', import.meta.url), 'utf8'));

/** @returns an HTTP server over the store; it does not listen yet */
export function createApp(store) {
  const collections = new Map(
    entities.map(entity => [entity.path, new Collection(entity, store, entities)]),
  );
  return createServer(async (request, response) => {
    try {
      await answer(request, response, collections);
    } catch (error) {
      fail(response, error);
    }
  });
}

async function answer(request, response, collections) {
  const [path, search] = request.url.split(/\\?(.*)/s);
  const operations = operationsAt(path, new URLSearchParams(search), collections);
  const run = operations[request.method];
  if (run === undefined) {
    const allow = Object.keys(operations).join(', ');
    throw new ApiError(405, 'method_not_allowed', \`This path answers \${allow}.\`, {
      headers: { allow },
    });
  }
  await run(request, response);
}

/** @returns what the path can do, by method */
function operationsAt(path, parameters, collections) {
  if (path === '/health') {
    return { GET: (_, response) => sendJson(response, 200, { status: 'ok' }) };
  }
  if (path === '/openapi.json') {
    return { GET: (_, response) => sendJson(response, 200, CONTRACT) };
  }
  const [, root, id] = /^(\\/[^/]+)(?:\\/([1-9]\\d{0,14}))?\\/?$/.exec(path) ?? [];
  const collection = collections.get(root);
  if (collection === undefined) throw notFound(\`There is nothing at \${path}.\`);
  return id === undefined
    ? wholeOperations(collection, root, parameters)
    : singleOperations(collection, Number(id));
}

function wholeOperations(collection, path, parameters) {
  return {
    GET: (_, response) => sendJson(response, 200, collection.list(parameters)),
    POST: async (request, response) => {
      const record = collection.create(await readObject(request));
      sendJson(response, 201, record, { location: \`\${path}/\${record.id}\` });
    },
  };
}

function singleOperations(collection, id) {
  return {
    GET: (_, response) => sendJson(response, 200, collection.read(id)),
    PUT: async (request, response) =>
      sendJson(response, 200, collection.replace(id, await readObject(request))),
    PATCH: async (request, response) =>
      sendJson(response, 200, collection.change(id, await readObject(request))),
    DELETE: (_, response) => {
      collection.remove(id);
      response.writeHead(204).end();
    },
  };
}

function fail(response, error) {
  if (error instanceof ApiError) {
    sendJson(response, error.status, error, error.headers);
    return;
  }
  console.error(error);
  sendJson(response, 500, new ApiError(500, 'internal', 'The service failed; see its log.'));
}
`;
}

/** src/server.js */
export function serverFile(): string {
  return `/**
 * Starts the service. PORT, HOST and DATA_FILE come from the environment.
 */

import { createApp } from './app.js';
import { Store } from './store.js';

const DRAIN_MS = 5000;

const { PORT = '3000', HOST = '127.0.0.1', DATA_FILE = 'data/store.json' } = process.env;
const server = createApp(new Store(DATA_FILE));

server.listen(Number(PORT), HOST, () => {
  console.log(\`listening on http://\${HOST}:\${server.address().port}\`);
});

/** Lets requests in flight end, then exits; gives up waiting after DRAIN_MS. */
function shutDown() {
  server.close();
  setTimeout(() => server.closeAllConnections(), DRAIN_MS).unref();
}

process.once('SIGINT', shutDown);
process.once('SIGTERM', shutDown);
`;
}
