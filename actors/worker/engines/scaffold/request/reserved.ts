/**
 * Words that may not name a field or an entity in the generated projects, because a language, a
 * library or the service itself already owns them.
 */

const LANGUAGE_WORDS =
  'abstract and any arguments as assert async await boolean break byte case catch char class ' +
  'const continue debugger def default del delete do double elif else enum eval except export ' +
  'extends false final finally float for from function global goto if implements import in ' +
  'instanceof int interface is lambda let long native new none nonlocal not null or package ' +
  'pass private protected public raise return self short static super switch synchronized ' +
  'this throw throws transient true try type typeof undefined var void volatile while with ' +
  'yield nan infinity';

const OBJECT_WORDS =
  'constructor prototype proto hasownproperty isprototypeof tostring valueof tolocalestring then';

const MODEL_WORDS =
  'copy json dict schema validate construct fields model_config model_fields model_dump ' +
  'model_validate parse_raw parse_obj parse_file from_orm update_forward_refs register ' +
  'schema_json';

const FILE_WORDS = 'con prn aux nul com1 com2 com3 com4 lpt1 lpt2 lpt3 init index main test';

const FIELD_WORDS: ReadonlySet<string> = new Set(
  `${OBJECT_WORDS} ${MODEL_WORDS} ${LANGUAGE_WORDS}`.split(' '),
);

const ENTITY_WORDS: ReadonlySet<string> = new Set(
  `${OBJECT_WORDS} ${MODEL_WORDS} ${LANGUAGE_WORDS} ${FILE_WORDS} health openapi error`.split(' '),
);

/**
 * Fields that need no new name although a language uses the word: they are only ever keys of data.
 */
const HARMLESS_FIELDS: ReadonlySet<string> = new Set(
  'abstract any char default double final float int long native new package private protected public short static type'.split(
    ' ',
  ),
);

/** @returns a name that is safe for a field: `class` becomes `class_value`. */
export function safeFieldName(name: string): string {
  const reserved = FIELD_WORDS.has(name) && !HARMLESS_FIELDS.has(name);
  if (/^\d/.test(name)) return `field_${name}`;
  return reserved || name.startsWith('model_') ? `${name}_value` : name;
}

/** @returns a name that is safe for an entity: `class` becomes `class_record`. */
export function safeEntityName(name: string): string {
  if (/^\d/.test(name)) return `entity_${name}`;
  return ENTITY_WORDS.has(name) ? `${name}_record` : name;
}
