/**
 * Subjects as the NATS server matches and rewrites them: `*` is one token, `>` is one or more at the end.
 */
export function subjectMatches(filter: string, subject: string): boolean {
  const wanted = filter.split('.');
  const tokens = subject.split('.');
  for (const [index, token] of wanted.entries()) {
    if (token === '>') return tokens.length > index;
    if (tokens[index] === undefined) return false;
    if (token !== '*' && token !== tokens[index]) return false;
  }
  return tokens.length === wanted.length;
}

/** Under which subject a stream keeps a message; `from` has no `>`. */
export function storedSubject(
  { from, to }: { readonly from: string; readonly to: string },
  subject: string,
): string {
  if (!subjectMatches(from, subject)) return subject;
  const tokens = subject.split('.');
  const wild = from.split('.').flatMap((token, index) => (token === '*' ? [tokens[index]] : []));
  return to.replace(/\{\{wildcard\((\d+)\)\}\}/g, (_, place) => wild[Number(place) - 1] ?? '');
}
