/**
 * Subject matching as the NATS server does it: `*` is one token, `>` is one or more at the end.
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
