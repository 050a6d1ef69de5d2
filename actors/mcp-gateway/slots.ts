/** A fixed number of things at once; whoever comes later waits in line. */

export interface Slots {
  /** Waits for a free slot; answers the way to give it back, which may be called twice. */
  take(): Promise<() => void>;
}

export function createSlots(count: number): Slots {
  let free = count;
  const waiting: (() => void)[] = [];
  return {
    async take() {
      if (free > 0) free -= 1;
      else await new Promise<void>(resolve => waiting.push(resolve));
      let held = true;
      return () => {
        if (!held) return;
        held = false;
        const next = waiting.shift();
        if (next === undefined) free += 1;
        else next();
      };
    },
  };
}
