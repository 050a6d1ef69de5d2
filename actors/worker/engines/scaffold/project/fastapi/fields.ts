/**
 * app/fields.py and the entity files: one pydantic type per field type the service uses, and none
 * it does not.
 */

import type { Entity, Field, FieldType, ServiceSpec } from '../../request/spec.ts';
import { pascal, spaced, withArticle } from '../../request/words.ts';
import { collectionPath, LIST_ITEMS_MAX, STRING_CHARS_MAX, TEXT_CHARS_MAX } from '../openapi.ts';
import { bracketed, fromImport, py } from './source.ts';

const TYPE_NAMES: Record<FieldType, string> = {
  string: 'ShortText',
  text: 'LongText',
  integer: 'Whole',
  number: 'Decimal',
  boolean: 'Flag',
  date: 'IsoDate',
  datetime: 'IsoDateTime',
  email: 'Email',
  url: 'Url',
  enum: 'Literal',
  list: 'TextList',
  reference: 'RecordId',
};

/** app/fields.py */
export function fieldsFile(spec: ServiceSpec): string {
  const used = new Set(spec.entities.flatMap(entity => entity.fields.map(field => field.type)));
  const parts = PARTS.filter(part => part.types.some(type => used.has(type)));
  const body = `${parts.map(part => part.text).join('\n\n')}\n`;
  const has = (word: RegExp): boolean => word.test(body);
  const standard = [
    has(/\bre\./) ? 'import re' : '',
    has(/\bdate\b\./) || has(/datetime\./)
      ? fromImport('datetime', [
          ...(has(/\bdate\./) ? ['date'] : []),
          ...(has(/\bdatetime\./) ? ['datetime'] : []),
        ])
      : '',
    has(/Annotated/) ? 'from typing import Annotated' : '',
  ].filter(line => line !== '');
  const pydantic = ['AfterValidator', 'Field', 'StringConstraints', 'StrictBool'].filter(name =>
    has(new RegExp(`\\b${name}\\b`)),
  );
  const imports = [
    ...standard,
    ...(pydantic.length > 0 ? ['', fromImport('pydantic', pydantic)] : []),
  ];
  return `"""The types a field can have. What JSON calls a string or a number stays one in the store."""

${imports.join('\n')}

${body}`.replace(/\n{4,}/g, '\n\n\n');
}

interface Part {
  readonly types: readonly FieldType[];
  readonly text: string;
}

/** Functions first, then the types that use them, as Python has to read them. */
const PARTS: readonly Part[] = [
  {
    types: ['string', 'list'],
    text: `
def not_blank(text: str) -> str:
    if text.strip() == "":
        raise ValueError("must not be blank")
    return text
`,
  },
  {
    types: ['date'],
    text: `
def iso_date(text: str) -> str:
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise ValueError("must be a date such as 2030-01-31")
    date.fromisoformat(text)
    return text
`,
  },
  {
    types: ['datetime'],
    text: `
def iso_datetime(text: str) -> str:
    pattern = r"[0-9-]{10}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})"
    if not re.fullmatch(pattern, text):
        raise ValueError("must be a date and time such as 2030-01-31T09:30:00Z")
    datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")
    return text
`,
  },
  {
    types: ['email'],
    text: `
def email_address(text: str) -> str:
    if not re.fullmatch(r"[^\\s@]+@[^\\s@]+\\.[^\\s@]+", text):
        raise ValueError("must be an email address")
    return text
`,
  },
  {
    types: ['url'],
    text: `
def web_address(text: str) -> str:
    if not re.fullmatch(r"https?://\\S+", text):
        raise ValueError("must be an http or https address")
    return text
`,
  },
  {
    types: ['string', 'list'],
    text: `
ShortText = Annotated[
    str,
    StringConstraints(strict=True, min_length=1, max_length=${STRING_CHARS_MAX}),
    AfterValidator(not_blank),
]`,
  },
  {
    types: ['text'],
    text: `LongText = Annotated[str, StringConstraints(strict=True, max_length=${TEXT_CHARS_MAX})]`,
  },
  {
    types: ['list'],
    text: `TextList = Annotated[list[ShortText], Field(max_length=${LIST_ITEMS_MAX})]`,
  },
  {
    types: ['integer'],
    text: `Whole = Annotated[int, Field(strict=True, ge=-(2**53) + 1, le=2**53 - 1)]`,
  },
  {
    types: ['number'],
    text: `Decimal = Annotated[float, Field(strict=True, allow_inf_nan=False)]`,
  },
  { types: ['boolean'], text: `Flag = StrictBool` },
  {
    types: ['date'],
    text: `IsoDate = Annotated[str, StringConstraints(strict=True), AfterValidator(iso_date)]`,
  },
  {
    types: ['datetime'],
    text: `IsoDateTime = Annotated[str, StringConstraints(strict=True), AfterValidator(iso_datetime)]`,
  },
  {
    types: ['email'],
    text: `Email = Annotated[
    str,
    StringConstraints(strict=True, max_length=${STRING_CHARS_MAX}),
    AfterValidator(email_address),
]`,
  },
  {
    types: ['url'],
    text: `Url = Annotated[str, StringConstraints(strict=True), AfterValidator(web_address)]`,
  },
  {
    types: ['reference'],
    text: `RecordId = Annotated[int, Field(strict=True, ge=1, le=2**53 - 1)]`,
  },
];

/** `OrderItemFields`, the model of an entity. */
function modelName(entity: Entity): string {
  return `${pascal(entity.name)}Fields`;
}

/** `ORDER_ITEM`, the constant that defines an entity. */
export function entityConstant(entity: Entity): string {
  return entity.name.toUpperCase();
}

/** app/entities/<name>.py */
export function entityFile(spec: ServiceSpec, entity: Entity): string {
  const types = entity.fields
    .map(field => TYPE_NAMES[field.type])
    .filter(name => name !== 'Literal');
  const standard = entity.fields.some(isBounded) ? ['Annotated'] : [];
  if (entity.fields.some(field => field.type === 'enum')) standard.push('Literal');
  const lists = entity.fields.some(field => isBounded(field) || field.type === 'list');
  const imports = [
    standard.length > 0 ? `${fromImport('typing', standard)}\n` : '',
    lists ? `from pydantic import Field\n` : '',
    `from app.entity import Entity, Fields`,
    types.length > 0 ? fromImport('app.fields', types) : '',
  ].filter(line => line !== '');
  const fields = entity.fields.map(field => `    ${field.name}: ${annotation(field)}\n`).join('');
  return `"""What ${withArticle(entity.name)} holds."""

${imports.join('\n')}


class ${modelName(entity)}(Fields):
${fields}

${entityConstant(entity)} = Entity(
    label=${py(spaced(entity.name))},
    collection=${py(entity.plural)},
    path=${py(collectionPath(entity))},
    fields=${modelName(entity)},
${referencesArgument(spec, entity)})
`;
}

function referencesArgument(spec: ServiceSpec, entity: Entity): string {
  const pairs = entity.fields
    .filter(field => field.type === 'reference')
    .map(field => {
      const target = spec.entities.find(other => other.name === field.target);
      return `${py(field.name)}: ${py(target?.plural ?? '')}`;
    });
  if (pairs.length === 0) return '';
  return `    ${bracketed('references={', pairs, '},').replace(/\n/g, '\n    ')}\n`;
}

function isBounded(field: Field): boolean {
  const counted = field.type === 'integer' || field.type === 'number';
  return counted && (field.minimum !== null || field.maximum !== null);
}

function annotation(field: Field): string {
  const type = boundedType(field);
  if (field.required) return type;
  if (field.type === 'boolean') return `${type} = False`;
  if (field.type === 'list') return `${type} = Field(default_factory=list)`;
  return `${type} | None = None`;
}

function boundedType(field: Field): string {
  if (field.type === 'enum') return `Literal[${field.values.map(py).join(', ')}]`;
  const name = TYPE_NAMES[field.type];
  if (!isBounded(field)) return name;
  const bounds = [
    ...(field.minimum === null ? [] : [`ge=${field.minimum}`]),
    ...(field.maximum === null ? [] : [`le=${field.maximum}`]),
  ];
  return `Annotated[${name}, Field(${bounds.join(', ')})]`;
}

/** app/entities/__init__.py */
export function entitiesFile(spec: ServiceSpec): string {
  const imports = spec.entities
    .map(entity => `from app.entities.${entity.name} import ${entityConstant(entity)}`)
    .sort()
    .join('\n');
  const names = spec.entities.map(entityConstant);
  return `"""Every kind of record the service keeps."""

${imports}

${bracketed('ENTITIES = (', names.length === 1 ? [`${names[0]},`] : names, ')')}
`;
}
