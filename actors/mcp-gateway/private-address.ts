/**
 * Whether an IP address belongs to the public internet. Everything else is refused to tools that
 * fetch: this machine, the house, link-local services, documentation and multicast ranges.
 */

/** `address` is the text of an IPv4 or IPv6 address as a resolver gives it. */
export function isPublicAddress(address: string): boolean {
  const v4 = parseV4(address);
  if (v4 !== null) return isPublicV4(v4);
  const words = parseV6(address);
  return words !== null && isPublicV6(words);
}

const PRIVATE_V4: readonly (readonly [string, number])[] = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 3],
];

function isPublicV4(value: number): boolean {
  return !PRIVATE_V4.some(([network, bits]) => {
    const shift = 2 ** (32 - bits);
    return Math.floor(value / shift) === Math.floor((parseV4(network) ?? 0) / shift);
  });
}

/** Only 2000::/3 is the public internet; of it, ranges that carry an IPv4 address are judged by it. */
function isPublicV6(words: readonly number[]): boolean {
  const [first = 0, second = 0] = words;
  const embedded = (at: number) => (words[at] ?? 0) * 65_536 + (words[at + 1] ?? 0);
  const zeros = words.slice(0, 5).every(word => word === 0);
  if (zeros && (words[5] === 0xffff || words[5] === 0))
    return words[5] === 0xffff && isPublicV4(embedded(6));
  if (first === 0x64 && second === 0xff9b) return isPublicV4(embedded(6));
  if (first === 0x2002) return isPublicV4(embedded(1));
  if (first === 0x2001 && (second === 0xdb8 || second < 0x200)) return false;
  return first >= 0x2000 && first <= 0x3fff;
}

function parseV4(text: string): number | null {
  const parts = text.split('.');
  if (parts.length !== 4) return null;
  let value = 0;
  for (const part of parts) {
    if (!/^(0|[1-9][0-9]{0,2})$/.test(part) || Number(part) > 255) return null;
    value = value * 256 + Number(part);
  }
  return value;
}

function parseV6(text: string): number[] | null {
  const bare = text
    .replace(/^\[|\]$/g, '')
    .replace(/%.*$/, '')
    .toLowerCase();
  const dotted = /^(.*:)([0-9.]+)$/.exec(bare);
  const v4 = dotted?.[2] === undefined ? null : parseV4(dotted[2]);
  const hex =
    v4 === null || dotted?.[1] === undefined
      ? bare
      : `${dotted[1]}${Math.floor(v4 / 65_536).toString(16)}:${(v4 % 65_536).toString(16)}`;
  const [head = '', tail, ...more] = hex.split('::');
  if (more.length > 0) return null;
  const words = (part: string) => (part === '' ? [] : part.split(':'));
  const left = words(head);
  const right = tail === undefined ? [] : words(tail);
  const missing = 8 - left.length - right.length;
  if (tail === undefined ? missing !== 0 : missing < 1) return null;
  const all = [...left, ...Array.from({ length: Math.max(0, missing) }, () => '0'), ...right];
  return all.every(word => /^[0-9a-f]{1,4}$/.test(word))
    ? all.map(word => Number.parseInt(word, 16))
    : null;
}
