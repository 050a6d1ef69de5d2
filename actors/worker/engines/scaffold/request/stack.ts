/**
 * Which of the two recipes a request wants, from TECH_STACK first and from the words of the prompt
 * otherwise.
 */

import { anyOf } from './phrase-pattern.ts';
import type { Stack } from './spec.ts';

export type StackChoice =
  | { readonly kind: 'stack'; readonly stack: Stack; readonly notes: readonly string[] }
  | { readonly kind: 'unsupported'; readonly technology: string };

const RECIPES: readonly (readonly [RegExp, Stack])[] = [
  [/\bfast[\s-]?api\b/i, 'fastapi'],
  [/\bpydantic\b|\bpytest\b|\bflask\b|\bstarlette\b|\bpython\b/i, 'fastapi'],
  [/\bnode(?:\.?js)?\b|\bexpress(?:\.?js)?\b|\bkoa\b|\bfastify\b|\bnest\.?js\b|\bhono\b/i, 'node'],
  [/\btype ?script\b|\bjava ?script\b|\bts\b|\bjs\b|\bdeno\b|\bbun\b/i, 'node'],
];

const UNSUPPORTED = anyOf(`
  rust, go, golang, django, ruby on rails, rails, ruby, php, laravel, symfony, java
  spring boot, spring, quarkus, kotlin, scala, c\\+\\+, c#, \\.net, asp\\.net, elixir, phoenix
  haskell, perl, swift, dart, flutter, cobol, fortran, assembly, zig, ocaml, clojure, erlang
  lua, r, c, actix, axum, gin, wordpress, solidity
`);

/** What may follow the name of a language; "in go-carts" names none. */
const AFTER = anyOf(
  '$\n[.;:!?)\\n]\n\\x2c\nand\\b, with\\b, please\\b, for\\b, that\\b, language\\b, using\\b, backend\\b',
);

/** Languages that are also ordinary words count only behind "in", "using" or "with". */
const UNSUPPORTED_ASKED = new RegExp(
  `\\b(?:in|using|with|on|via)\\s+(${UNSUPPORTED})(?=\\s*${AFTER})`,
  'i',
);
const UNSUPPORTED_CLEAR = new RegExp(
  `\\b${anyOf('django, golang, laravel, ruby on rails, spring boot, asp\\.net, actix')}\\b` +
    `|\\b(?:rust|go|java|kotlin|php|ruby|scala|elixir|c\\+\\+|c#)\\s+` +
    `(?:api|rest|service|backend|microservice|server|crate|program|app)\\b`,
  'i',
);

const DIFFERENT: readonly (readonly [RegExp, string])[] = [
  [
    /\bexpress(?:\.?js)?\b/i,
    'Express was asked for; the service uses node:http directly and has no dependencies.',
  ],
  [
    /\b(?:koa|fastify|nest\.?js|hono)\b/i,
    'A Node framework was asked for; the service uses node:http directly.',
  ],
  [
    /\btype ?script\b/i,
    'TypeScript was asked for; the service is written in plain JavaScript modules.',
  ],
  [/\b(?:deno|bun)\b/i, 'The service is written for Node 20 or later.'],
  [/\bflask\b/i, 'Flask was asked for; the service is written with FastAPI.'],
];

/** What neither recipe builds; each is said in the README when it was asked for. */
const UNCOVERED: readonly (readonly [RegExp, string])[] = [
  [
    /\b(?:postgres(?:ql)?|mysql|mariadb|sqlite|mongo(?:db)?|redis|sqlalchemy|prisma|dynamodb|cassandra|mssql|oracle)\b/i,
    'A database was asked for and is not covered: records are kept in memory and saved to one JSON file.',
  ],
  [
    /\b(?:react|vue|angular|svelte|next\.?js|nuxt|frontend|front-end|web ui|user interface|html|tailwind)\b/i,
    'A frontend was asked for and is not covered: the project is the HTTP service only.',
  ],
  [
    /\b(?:auth|authentication|authorization|login|jwt|oauth2?|sso|roles? and permissions)\b/i,
    'Authentication was asked for and is not covered: put the service behind a gateway that does it.',
  ],
  [/\b(?:graphql|grpc|websockets?)\b/i, 'Only REST over HTTP is covered.'],
  [
    /\b(?:full[- ]text search|elasticsearch)\b/i,
    'Full-text search is not covered; lists filter by equality.',
  ],
  [
    /\b(?:file uploads?|upload (?:files?|images?|photos?))\b/i,
    'File upload is not covered; keep a URL instead.',
  ],
];

/** Keys of TECH_STACK that speak of another layer than the service. */
const OTHER_LAYER = /front|client|\bui\b|css|test|data|deploy/i;

/**
 * @param prompt the user's words
 * @param techStack the TECH_STACK object; its backend, language and framework weigh more than the
 * prompt
 */
export function chooseStack(
  prompt: string,
  techStack: Readonly<Record<string, string>>,
): StackChoice {
  const pick = (pattern: RegExp): string =>
    Object.entries(techStack)
      .filter(([key]) => pattern.test(key) && !OTHER_LAYER.test(key))
      .map(([, value]) => value)
      .join(' ');
  const asked = pick(/back|lang|frame|runtime|server|api|stack/i);
  const everything = `${prompt}\n${Object.values(techStack).join('\n')}`;
  const known = recipeFor(asked);
  if (
    asked.trim() !== '' &&
    known === null &&
    !/^\s*(?:any|auto|none|default|rest|http|api|json|rest api)\s*$/i.test(asked)
  ) {
    return { kind: 'unsupported', technology: asked.trim().slice(0, 40) };
  }
  const refused = known === null ? unsupportedIn(prompt) : null;
  if (refused !== null) return { kind: 'unsupported', technology: refused };
  const notes = [...DIFFERENT, ...UNCOVERED]
    .filter(([pattern]) => pattern.test(withoutDenials(everything)))
    .map(([, note]) => note);
  return { kind: 'stack', stack: known ?? recipeFor(prompt) ?? 'node', notes };
}

function recipeFor(words: string): Stack | null {
  return RECIPES.find(([pattern]) => pattern.test(words))?.[1] ?? null;
}

function unsupportedIn(prompt: string): string | null {
  const match = UNSUPPORTED_CLEAR.exec(prompt) ?? UNSUPPORTED_ASKED.exec(prompt);
  return match === null ? null : (match[1] ?? match[0]).trim();
}

/** Names that mean a technology wherever they stand; they are cut before the prompt is read. */
const TECHNOLOGY = new RegExp(
  `\\b${anyOf(`
    fast[\\s-]?api, pydantic, pytest, flask, starlette, python(?:\\s*3(?:\\.\\d+)?)?, node\\.?js
    express(?:\\.?js)?, koa, fastify, nest\\.?js, hono, type ?script, java ?script, deno
    postgres(?:ql)?, mysql, mariadb, sqlite, mongo(?:db)?, redis, sqlalchemy, prisma, dynamodb
    react(?:\\.?js)?, vue(?:\\.?js)?, angular, svelte, next\\.?js, nuxt, tailwind
    docker(?:file)?, kubernetes, jwt, oauth2?, swagger, openapi, graphql, grpc
  `)}\\b`,
  'gi',
);

/** @returns the text without the names of technologies. */
export function withoutTechnology(text: string): string {
  return text.replace(TECHNOLOGY, ' ');
}

/** "no authentication", "without a database" ask for nothing. */
function withoutDenials(text: string): string {
  return text.replace(
    /\b(?:no|without|not|don't|doesn't)\s+(?:(?:a|an|any|need|use|want)\s+)*[\w-]+/gi,
    ' ',
  );
}
