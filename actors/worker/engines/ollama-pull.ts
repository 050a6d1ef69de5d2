/** A line of Ollama's pull as progress of ours. */
import type { ProgressResponse } from 'ollama';
import type { PullProgress } from '../../../protocol/inference.ts';

export function progressOf(part: Partial<ProgressResponse>): PullProgress {
  const { status = '', digest, total, completed } = part;
  return {
    status: status.slice(0, 256),
    ...(digest === undefined ? {} : { digest: digest.slice(0, 128) }),
    ...(isCount(total) ? { total_bytes: total } : {}),
    ...(isCount(completed) ? { completed_bytes: completed } : {}),
  };
}

const isCount = (value: number | undefined): value is number =>
  value !== undefined && Number.isSafeInteger(value) && value >= 0;
