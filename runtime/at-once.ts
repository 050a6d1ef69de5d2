/** Work on many things, a bounded number of them at once. */

/**
 * Calls `work` for each item, in their order, at most `limit` at once. Where one throws nothing more
 * is begun; it throws the first error when what was begun is over.
 */
export async function eachAtOnce<T>(
  items: AsyncIterable<T> | Iterable<T>,
  limit: number,
  work: (item: T) => Promise<unknown>,
): Promise<void> {
  const running = new Set<Promise<void>>();
  const errors: unknown[] = [];
  for await (const item of items) {
    while (running.size >= limit) await Promise.race(running);
    if (errors.length > 0) break;
    const one = work(item).then(
      () => void running.delete(one),
      error => {
        errors.push(error);
        running.delete(one);
      },
    );
    running.add(one);
  }
  await Promise.all(running);
  if (errors.length > 0) throw errors[0];
}
