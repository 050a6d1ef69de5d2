/** A text as one word of a POSIX shell: what is printed to be pasted must mean what it says. */

const PLAIN = /^[\w@%+=:,./-]+$/;

export const shellWord = (text: string): string =>
  PLAIN.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
