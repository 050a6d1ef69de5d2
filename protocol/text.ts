/** Small schemas shared by many messages: bounded text, times, sizes, paths, artifact references. */
import { z } from 'zod';
import { UNSEEN } from './hidden-characters.ts';
import { PATH_LENGTH_MAX } from './limits.ts';

/** A sentence for people. */
export const Sentence = z.string().max(4_096);
/** Milliseconds since 1970-01-01T00:00:00Z. */
export const EpochMs = z.int().min(0);
export const Bytes = z.int().min(0);
/** Bytes, or null where nobody knows. Unknown is not zero. */
export const BytesOrUnknown = Bytes.nullable();
/** A git object name. */
export const Sha = z.string().regex(/^[0-9a-f]{40,64}$/, 'a git object name');
export const Sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'a SHA-256 in hex');

/** Why a path may not stand in a plan or an answer, or null where it may. */
export function pathFault(path: string): string | null {
  if (path.length === 0) return 'is empty';
  if (path.length > PATH_LENGTH_MAX) return `is longer than ${PATH_LENGTH_MAX} characters`;
  if (/^([/\\~]|[A-Za-z]:)/.test(path)) return 'is absolute';
  if (hasControlCharacter(path)) return 'holds a control character';
  if (path.search(UNSEEN) >= 0) return 'holds a character that nobody sees';
  if (path.includes('\\')) return 'holds a backslash';
  const segments = path.split('/');
  if (segments.includes('..')) return 'leaves the project';
  if (segments.some(segment => segment === '' || segment === '.')) return 'has an empty segment';
  if (segments.some(isGitFolder)) return 'points into .git';
  if (path.startsWith('-')) return 'starts with a dash';
  return null;
}

/** Also as file systems of other machines read it: without blanks and dots at its end, or shortened. */
function isGitFolder(segment: string): boolean {
  const [name = ''] = segment.split(':', 1);
  return /^(\.git|git~[0-9]+)$/i.test(name.replace(/(?<![ .])[ .]+$/, ''));
}

function hasControlCharacter(text: string): boolean {
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    if (unit < 0x20 || unit === 0x7f) return true;
  }
  return false;
}

/** A path inside a project: relative, forward slashes, no `..`, not into `.git`. */
export const ProjectPath = z.string().check(context => {
  const fault = pathFault(context.value);
  if (fault !== null) {
    context.issues.push({ code: 'custom', message: `the path ${fault}`, input: context.value });
  }
});

/** Something too large for a message, kept in the object store. */
export const ArtifactReference = z.looseObject({
  bucket: z.string().max(64),
  name: z.string().max(256),
  sha256: Sha256,
  size: Bytes,
});
export type ArtifactReference = z.infer<typeof ArtifactReference>;
