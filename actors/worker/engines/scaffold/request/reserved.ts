/**
 * Words that may not name a field or an entity in the generated projects, because a language or a
 * library already owns them. Entities and fields are only ever keys in JavaScript, so Python decides.
 */

const PYTHON_WORDS =
  'and as assert async await break class continue def del elif else except finally for from ' +
  'global if import in is lambda nonlocal not or pass raise return try while with yield';

/** What every JavaScript object and every pydantic model has already. */
const OBJECT_WORDS =
  'constructor prototype proto copy json dict list schema validate construct fields register ' +
  'parse_raw parse_obj parse_file from_orm update_forward_refs schema_json';

/** Names of files with a meaning of their own to a system or a test runner. */
const FILE_WORDS = 'con prn aux nul com1 com2 com3 com4 lpt1 lpt2 lpt3 test';

const FIELD_WORDS: ReadonlySet<string> = new Set(`${PYTHON_WORDS} ${OBJECT_WORDS}`.split(' '));
const ENTITY_WORDS: ReadonlySet<string> = new Set(`${PYTHON_WORDS} ${FILE_WORDS}`.split(' '));

/** @returns a name that is safe for a field: `class` becomes `class_value`. */
export function safeFieldName(name: string): string {
  if (/^\d/.test(name)) return `field_${name}`;
  return FIELD_WORDS.has(name) || name.startsWith('model_') ? `${name}_value` : name;
}

/** @returns a name that is safe for an entity: `class` becomes `class_record`. */
export function safeEntityName(name: string): string {
  if (/^\d/.test(name)) return `entity_${name}`;
  return ENTITY_WORDS.has(name) ? `${name}_record` : name;
}
