/**
 * Checks a call's arguments against the tool's live JSON Schema (2020-12), before it is fired.
 *
 * S1: the schema is the server's, with patterns that may take for ever: making and running a check
 *     have a limit of time. A schema that breaks it is not used again; the server checks by itself.
 */

import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { withinTime } from '../../../runtime/time-limit.ts';
import type { LiveTool } from '../tool-definitions.ts';

export interface ArgumentSchemas {
  /** What is wrong, as one sentence per fault; empty where all is well. */
  faults(tool: LiveTool, args: object): string[];
}

const FAULTS_MAX = 8;
const CHECK_MS_MAX = 250;

export function createArgumentSchemas(): ArgumentSchemas {
  const ajv = new Ajv2020({ strict: false, allErrors: true, logger: false });
  addFormats.default(ajv);
  const compiled = new WeakMap<object, ValidateFunction | null>();
  const validatorOf = (tool: LiveTool): ValidateFunction | null => {
    const known = compiled.get(tool.inputSchema);
    if (known !== undefined) return known;
    const made = withinTime(CHECK_MS_MAX, () => compile(ajv, tool.inputSchema)) ?? null; // S1
    compiled.set(tool.inputSchema, made);
    return made;
  };
  return {
    faults(tool, args) {
      const validate = validatorOf(tool);
      if (validate === null) return [];
      const isValid = withinTime(CHECK_MS_MAX, () => validate(args)); // S1
      if (isValid === undefined) compiled.set(tool.inputSchema, null);
      if (isValid !== false) return [];
      return (validate.errors ?? []).slice(0, FAULTS_MAX).map(error => {
        const where = error.instancePath.slice(1).replaceAll('/', '.');
        const allowed = Object(error.params).allowedValues;
        const values = Array.isArray(allowed) ? `: ${allowed.join(', ')}` : '';
        const extra = Object(error.params).additionalProperty;
        const name = typeof extra === 'string' ? ` (${extra})` : '';
        return `${where === '' ? '' : `${where} `}${error.message ?? error.keyword}${name}${values}`;
      });
    },
  };
}

/** Null where the server's schema is itself wrong: then the server has the word. */
function compile(ajv: Ajv2020, schema: Readonly<Record<string, unknown>>): ValidateFunction | null {
  // Servers name older drafts whose keywords mean the same here; identifiers would collide.
  const { $schema, $id, ...plain } = schema;
  try {
    return ajv.compile(plain);
  } catch {
    // Not our fault and not the caller's: the server checks its own arguments too.
    return null;
  }
}
