/**
 * The README of a generated project and what its image leaves out.
 */

import type { Entity, Field, ServiceSpec } from '../request/spec.ts';
import { spaced, withArticle } from '../request/words.ts';
import { collectionPath } from './openapi.ts';
import { rightValues } from './samples.ts';

/** .dockerignore */
export function dockerignoreFile(paths: readonly string[]): string {
  return `${['.git', 'data', ...paths].join('\n')}\n`;
}

/** README.md */
export function readmeFile(spec: ServiceSpec): string {
  const port = spec.stack === 'node' ? 3000 : 8000;
  const kept = spec.entities.map(entity => spaced(entity.plural));
  const parts = [
    `# ${spec.title}\n\nA REST service that keeps ${listed(kept)}.`,
    spec.stack === 'node' ? nodeStart(port) : fastapiStart(port),
    firstRequest(spec, port),
    `## What it keeps\n\n${spec.entities.map(entityTable).join('\n\n')}`,
    usage(spec),
    errors(),
    settings(spec, port),
    limits(spec),
  ];
  return `${parts.join('\n\n')}\n`;
}

function listed(words: readonly string[]): string {
  if (words.length < 2) return words.join('');
  return `${words.slice(0, -1).join(', ')} and ${words.at(-1)}`;
}

function nodeStart(port: number): string {
  return `## Start and test

Node 20 or later is all it needs; there are no dependencies.

\`\`\`sh
npm start        # http://127.0.0.1:${port}
node --test      # the tests
\`\`\`

In a container:

\`\`\`sh
docker build -t service .
docker run --rm -p ${port}:${port} -v service-data:/service/data service
\`\`\``;
}

function fastapiStart(port: number): string {
  return `## Start and test

Python 3.10 or later.

\`\`\`sh
python -m venv .venv
. .venv/bin/activate
pip install -r requirements.txt
python -m app          # http://127.0.0.1:${port}
python -m pytest -q    # the tests
\`\`\`

In a container:

\`\`\`sh
docker build -t service .
docker run --rm -p ${port}:${port} -v service-data:/service/data service
\`\`\``;
}

function firstRequest(spec: ServiceSpec, port: number): string {
  const entity =
    spec.entities.find(
      other => !other.fields.some(field => field.type === 'reference' && field.required),
    ) ?? spec.entities[0];
  if (entity === undefined) return '';
  const path = collectionPath(entity);
  const own = entity.fields.filter(field => field.type !== 'reference');
  const body = JSON.stringify(
    Object.fromEntries(own.map(field => [field.name, rightValues(field)[0]])),
  );
  return `## Try it

\`\`\`sh
curl -X POST http://127.0.0.1:${port}${path} \\
  -H 'content-type: application/json' \\
  -d '${body.replaceAll("'", '')}'
curl 'http://127.0.0.1:${port}${path}?limit=5&sort=-id'
\`\`\``;
}

function entityTable(entity: Entity): string {
  const rows = entity.fields.map(
    field => `| \`${field.name}\` | ${meaning(field)} | ${field.required ? 'yes' : ''} |`,
  );
  return `### ${capital(spaced(entity.plural))}: \`${collectionPath(entity)}\`

| field | holds | required |
|---|---|---|
| \`id\` | whole number, given by the service | |
${rows.join('\n')}`;
}

const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

function meaning(field: Field): string {
  const range =
    field.minimum !== null && field.maximum !== null
      ? ` from ${field.minimum} to ${field.maximum}`
      : field.minimum !== null
        ? `, ${field.minimum} or more`
        : '';
  const words: Record<Field['type'], string> = {
    string: 'text of 1 to 200 characters',
    text: 'text of up to 10000 characters',
    integer: `whole number${range}`,
    number: `number${range}`,
    boolean: '`true` or `false`',
    date: 'date, `2030-01-31`',
    datetime: 'date and time, `2030-01-31T09:30:00Z`',
    email: 'email address',
    url: 'http or https address',
    enum: `one of ${field.values.map(value => `\`${value}\``).join(', ')}`,
    list: 'list of texts',
    reference: `id of ${withArticle(field.target ?? '')}`,
  };
  return words[field.type];
}

function usage(spec: ServiceSpec): string {
  const first = spec.entities[0];
  const path = first === undefined ? '/' : collectionPath(first);
  return `## What a client can do

Every collection answers the same six requests; [openapi.json](openapi.json) has the details and is
also served at \`/openapi.json\`.

| request | does |
|---|---|
| \`GET ${path}\` | a page: \`?limit=\` (1 to 100, default 20), \`?offset=\`, \`?sort=field\` or \`?sort=-field\`, \`?field=value\` |
| \`POST ${path}\` | creates |
| \`GET ${path}/1\` | reads |
| \`PUT ${path}/1\` | replaces |
| \`PATCH ${path}/1\` | changes the given fields |
| \`DELETE ${path}/1\` | deletes, or answers 409 while another record refers to it |

\`GET /health\` answers \`{"status":"ok"}\`.`;
}

function errors(): string {
  return `## Errors

Every failure has one shape:

\`\`\`json
{"error":{"code":"validation_failed","message":"Some values break a rule.","details":[{"field":"name","message":"is required"}]}}
\`\`\`

400 malformed JSON, 404 nothing there, 405 wrong method, 409 still referenced, 413 body too large,
415 not declared as JSON, 422 a value breaks a rule.`;
}

function settings(spec: ServiceSpec, port: number): string {
  return `## Settings

| variable | default | meaning |
|---|---|---|
| \`PORT\` | \`${port}\` | the port |
| \`HOST\` | \`127.0.0.1\` | the address; \`0.0.0.0\` opens it to the network |
| \`DATA_FILE\` | \`data/store.json\` | where records are saved |${
    spec.stack === 'node' ? '' : '\n\nRun one process only: the records live in its memory.'
  }`;
}

function limits(spec: ServiceSpec): string {
  const always =
    'Records are kept in memory and saved to one JSON file, written anew and moved into place ' +
    'at every change. That is right for thousands of records, not for millions.';
  const notes = [
    always,
    'There is no authentication.',
    ...spec.notes.filter(note => !/^Authentication/.test(note)),
  ];
  return `## Limits\n\n${notes.map(note => `- ${note}`).join('\n')}`;
}
