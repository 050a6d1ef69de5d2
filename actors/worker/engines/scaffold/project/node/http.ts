/**
 * The HTTP side of a Node service, the same whatever it keeps: errors, bodies, routes, start.
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
    throw new ApiError(405, 'method_not_allowed', \`This path knows no \${request.method}.\`, {
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
