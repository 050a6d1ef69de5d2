/**
 * Routes of Ollama's program that are about one machine's own files or one person's account. A pool of
 * machines has neither: each is refused with a sentence that says what to do instead.
 */
import { CodeGodError } from '../../../../protocol/errors.ts';

/** As an Ollama answers `/api/status` whose models of the cloud are switched off. */
export const NO_CLOUD = { cloud: { disabled: true, source: 'config' } };

const ON_THE_NODE = 'do it on the machine that is to have it, with its own OLLAMA_HOST';
const NO_ACCOUNT = 'the pool has no account at ollama.com';

const REFUSALS: readonly (readonly [RegExp, string])[] = [
  [/^\/api\/copy$/, `the pool copies no models: ${ON_THE_NODE}`],
  [/^\/api\/delete$/, `the pool deletes no models: ${ON_THE_NODE}`],
  [/^\/api\/(create|blobs\/.*)$/, `the pool creates no models: ${ON_THE_NODE}`],
  [/^\/api\/push$/, 'the pool pushes no models: do it on the machine that has it'],
  [
    /^\/api\/(me|signout|user\/keys\/.*)$/,
    `${NO_ACCOUNT}: all its models are those of its machines`,
  ],
  [/^\/api\/experimental\/aliases$/, 'aliases are a setting here: models.aliases'],
];

/** @throws CodeGodError `denied` */
export function refuseNodesOwn(path: string): void {
  for (const [pattern, reason] of REFUSALS) {
    if (pattern.test(path)) throw new CodeGodError('denied', reason);
  }
}
