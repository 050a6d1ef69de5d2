/** How deep foreign JSON nests: whoever walks it, or writes it out again, walks it by recursion. */

/** Whether there are more than `levels` objects or lists within each other; walks no deeper. */
export function isDeeper(value: unknown, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return levels === 0 || Object.values(value).some(inner => isDeeper(inner, levels - 1));
}
