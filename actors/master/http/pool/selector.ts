/** The header `x-codegod-selector: room=attic,gpu=3090`: labels that a node must have. */
import { CodeGodError } from '../../../../protocol/errors.ts';

const PAIR = /^([A-Za-z0-9._/-]{1,63})=([A-Za-z0-9._/-]{1,63})$/;
const PAIRS_MAX = 16;

/** Null where none was given. @throws CodeGodError `bad_request` */
export function selectorOf(header: string | undefined): Readonly<Record<string, string>> | null {
  if (header === undefined || header.trim() === '') return null;
  const selector: Record<string, string> = {};
  const pairs = header.split(',', PAIRS_MAX + 1);
  for (const pair of pairs) {
    const [, label, value] = PAIR.exec(pair.trim()) ?? [];
    if (label === undefined || value === undefined || pairs.length > PAIRS_MAX) {
      throw new CodeGodError('bad_request', 'x-codegod-selector is like room=attic,gpu=3090');
    }
    selector[label] = value;
  }
  return selector;
}
