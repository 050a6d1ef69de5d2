/**
 * src/rules.js: one function per field type the service uses, and none it does not.
 */

import type { Entity, Field, FieldType, ServiceSpec } from '../../request/spec.ts';
import { LIST_ITEMS_MAX, STRING_CHARS_MAX, TEXT_CHARS_MAX } from '../openapi.ts';
import { js } from './source.ts';

/** The name of the rule function for a type: `enum` is a reserved word. */
function ruleName(type: FieldType): string {
  const names: Partial<Record<FieldType, string>> = {
    enum: 'oneOf',
    list: 'listOfStrings',
    number: 'decimal',
  };
  return names[type] ?? type;
}

/** @returns the names of the rules an entity imports. */
export function rulesOf(entity: Entity): string[] {
  return entity.fields.map(field => ruleName(field.type));
}

/** @returns the field as an entry of a definition: `title: string({ required: true })`. */
export function fieldEntry(field: Field, collectionOf: (entity: string) => string): string {
  const options: string[] = [];
  if (field.required) options.push('required: true');
  if (field.type === 'integer' || field.type === 'number') {
    if (field.minimum !== null) options.push(`minimum: ${field.minimum}`);
    if (field.maximum !== null) options.push(`maximum: ${field.maximum}`);
  }
  const positional = positionalOf(field, collectionOf);
  const given = options.length > 0 ? `{ ${options.join(', ')} }` : '';
  return `${field.name}: ${ruleName(field.type)}(${[positional, given].filter(Boolean).join(', ')})`;
}

function positionalOf(field: Field, collectionOf: (entity: string) => string): string {
  if (field.type === 'enum') return js(field.values);
  return field.type === 'reference' ? js(collectionOf(field.target ?? '')) : '';
}

/** src/rules.js */
export function rulesFile(spec: ServiceSpec): string {
  const used = new Set(spec.entities.flatMap(entity => entity.fields.map(field => field.type)));
  const parts = PARTS.filter(([types]) => types.some(type => used.has(type))).map(
    ([, text]) => text,
  );
  return [HEAD, ...parts].join('\n');
}

const HEAD = `/**
 * What a field may hold. A rule has check(value), which answers null or the sentence that says what
 * would be right, and parse(text), which reads the same value from a query string. null stands for
 * "not given".
 */

function rule(type, options, check, parse = text => text) {
  return { type, required: false, default: null, ...options, check, parse };
}
`;

const PARTS: readonly (readonly [readonly FieldType[], string])[] = [
  [
    ['string'],
    `export function string(options) {
  return rule('string', options, value =>
    typeof value === 'string' && value.trim() !== '' && value.length <= ${STRING_CHARS_MAX}
      ? null
      : 'must be a text of 1 to ${STRING_CHARS_MAX} characters',
  );
}
`,
  ],
  [
    ['text'],
    `export function text(options) {
  return rule('text', options, value =>
    typeof value === 'string' && value.length <= ${TEXT_CHARS_MAX}
      ? null
      : 'must be a text of at most ${TEXT_CHARS_MAX} characters',
  );
}
`,
  ],
  [
    ['integer'],
    `export function integer(options = {}) {
  const wanted = \`must be a whole number\${bounds(options)}\`;
  return rule(
    'integer',
    options,
    value => (Number.isSafeInteger(value) && within(value, options) ? null : wanted),
    number,
  );
}
`,
  ],
  [
    ['number'],
    `export function decimal(options = {}) {
  const wanted = \`must be a number\${bounds(options)}\`;
  return rule(
    'number',
    options,
    value => (Number.isFinite(value) && within(value, options) ? null : wanted),
    number,
  );
}
`,
  ],
  [
    ['integer', 'number'],
    `function within(value, { minimum = -Infinity, maximum = Infinity }) {
  return value >= minimum && value <= maximum;
}

function bounds({ minimum, maximum }) {
  if (minimum !== undefined && maximum !== undefined) return \` from \${minimum} to \${maximum}\`;
  if (minimum !== undefined) return \`, \${minimum} or more\`;
  return maximum === undefined ? '' : \`, \${maximum} or less\`;
}
`,
  ],
  [
    ['integer', 'number', 'reference'],
    `/** An empty text is no number, although JavaScript reads it as 0. */
function number(text) {
  return text.trim() === '' ? text : Number(text);
}
`,
  ],
  [
    ['boolean'],
    `export function boolean(options) {
  return rule(
    'boolean',
    { default: false, ...options },
    value => (typeof value === 'boolean' ? null : 'must be true or false'),
    text => (text === 'true' || text === 'false' ? text === 'true' : text),
  );
}
`,
  ],
  [
    ['date'],
    `export function date(options) {
  return rule('date', options, value =>
    /^\\d{4}-\\d{2}-\\d{2}$/.test(value) && isCalendarDay(value)
      ? null
      : 'must be a date such as 2030-01-31',
  );
}
`,
  ],
  [
    ['datetime'],
    `export function datetime(options) {
  const pattern =
    /^\\d{4}-\\d{2}-\\d{2}T([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,6})?(Z|[+-]\\d{2}:\\d{2})$/;
  return rule('datetime', options, value =>
    pattern.test(value) && isCalendarDay(value.slice(0, 10))
      ? null
      : 'must be a date and time such as 2030-01-31T09:30:00Z',
  );
}
`,
  ],
  [
    ['date', 'datetime'],
    `/** Date turns 2030-02-30 into 2030-03-02, so a day is real when it comes back unchanged. */
function isCalendarDay(day) {
  const parsed = new Date(\`\${day}T00:00:00Z\`);
  return !Number.isNaN(parsed.getTime()) && parsed.toISOString().startsWith(day);
}
`,
  ],
  [
    ['email'],
    `export function email(options) {
  return rule('email', options, value =>
    typeof value === 'string' && value.length <= ${STRING_CHARS_MAX} && /^[^\\s@]+@[^\\s@]+\\.[^\\s@]+$/.test(value)
      ? null
      : 'must be an email address',
  );
}
`,
  ],
  [
    ['url'],
    `export function url(options) {
  return rule('url', options, value =>
    typeof value === 'string' && /^https?:\\/\\/\\S+$/.test(value) && URL.canParse(value)
      ? null
      : 'must be an http or https address',
  );
}
`,
  ],
  [
    ['enum'],
    `export function oneOf(values, options) {
  return rule('enum', options, value =>
    values.includes(value) ? null : \`must be one of \${values.join(', ')}\`,
  );
}
`,
  ],
  [
    ['list'],
    `export function listOfStrings(options) {
  return rule('list', { default: [], ...options }, value =>
    Array.isArray(value) && value.length <= ${LIST_ITEMS_MAX} && value.every(isShortText)
      ? null
      : 'must be a list of texts',
  );
}

function isShortText(value) {
  return typeof value === 'string' && value.trim() !== '' && value.length <= ${STRING_CHARS_MAX};
}
`,
  ],
  [
    ['reference'],
    `/** The id of a record in another collection; that it exists is checked where it is stored. */
export function reference(collection, options) {
  return rule(
    'reference',
    { collection, ...options },
    value => (Number.isSafeInteger(value) && value > 0 ? null : 'must be the id of a record'),
    number,
  );
}
`,
  ],
];
