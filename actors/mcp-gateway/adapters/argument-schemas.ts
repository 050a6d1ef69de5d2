/** Checks a call's arguments against the tool's live JSON Schema (2020-12), before it is fired. */
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import type { LiveTool } from './server-connection.ts';

export interface ArgumentSchemas {
  /** What is wrong, as one sentence per fault; empty where all is well. */
  faults(tool: LiveTool, args: object): string[];
}

const FAULTS_MAX = 8;

export function createArgumentSchemas(): ArgumentSchemas {
  const ajv = new Ajv2020({ strict: false, allErrors: true, logger: false });
  addFormats.default(ajv);
  const compiled = new WeakMap<object, ValidateFunction | null>();
  const validatorOf = (tool: LiveTool): ValidateFunction | null => {
    const known = compiled.get(tool.inputSchema);
    if (known !== undefined) return known;
    const made = compile(ajv, tool.inputSchema);
    compiled.set(tool.inputSchema, made);
    return made;
  };
  return {
    faults(tool, args) {
      const validate = validatorOf(tool);
      if (validate === null || validate(args)) return [];
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
