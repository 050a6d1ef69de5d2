/**
 * Element types of tensors in GGUF files: the number each has in a file, its name, and how many
 * bytes a block of how many elements takes.
 */

export interface GgmlType {
  readonly number: number;
  readonly name: string;
  readonly block_elements: number;
  readonly block_bytes: number;
}

/** [number in a file, name, elements of a block, bytes of a block]; removed types left out. */
const TYPES: readonly (readonly [number, string, number, number])[] = [
  [0, 'F32', 1, 4],
  [1, 'F16', 1, 2],
  [2, 'Q4_0', 32, 18],
  [3, 'Q4_1', 32, 20],
  [6, 'Q5_0', 32, 22],
  [7, 'Q5_1', 32, 24],
  [8, 'Q8_0', 32, 34],
  [9, 'Q8_1', 32, 36],
  [10, 'Q2_K', 256, 84],
  [11, 'Q3_K', 256, 110],
  [12, 'Q4_K', 256, 144],
  [13, 'Q5_K', 256, 176],
  [14, 'Q6_K', 256, 210],
  [15, 'Q8_K', 256, 292],
  [16, 'IQ2_XXS', 256, 66],
  [17, 'IQ2_XS', 256, 74],
  [18, 'IQ3_XXS', 256, 98],
  [19, 'IQ1_S', 256, 50],
  [20, 'IQ4_NL', 32, 18],
  [21, 'IQ3_S', 256, 110],
  [22, 'IQ2_S', 256, 82],
  [23, 'IQ4_XS', 256, 136],
  [24, 'I8', 1, 1],
  [25, 'I16', 1, 2],
  [26, 'I32', 1, 4],
  [27, 'I64', 1, 8],
  [28, 'F64', 1, 8],
  [29, 'IQ1_M', 256, 56],
  [30, 'BF16', 1, 2],
  [34, 'TQ1_0', 256, 54],
  [35, 'TQ2_0', 256, 66],
  [39, 'MXFP4', 32, 17],
  [40, 'NVFP4', 64, 36],
  [41, 'Q1_0', 128, 18],
  [42, 'Q2_0', 64, 18],
];

const BY_NUMBER = new Map<number, GgmlType>();
const BY_NAME = new Map<string, GgmlType>();
for (const [number, name, block_elements, block_bytes] of TYPES) {
  const type = { number, name, block_elements, block_bytes };
  BY_NUMBER.set(number, type);
  BY_NAME.set(name, type);
}

export function ggmlTypeOfNumber(number: number): GgmlType | null {
  return BY_NUMBER.get(number) ?? null;
}

export function ggmlTypeOfName(name: string): GgmlType | null {
  return BY_NAME.get(name.toUpperCase()) ?? null;
}

/** Bytes of a tensor: each row, the first dimension, is a whole number of blocks. */
export function tensorBytes(type: GgmlType, shape: readonly number[]): number {
  const [row = 1, ...rest] = shape;
  const rows = rest.reduce((product, size) => product * size, 1);
  return Math.ceil(row / type.block_elements) * type.block_bytes * rows;
}
