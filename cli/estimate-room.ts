/**
 * The room that an estimate is held against: cards and main memory as given by flags, or those of
 * this machine. Declared cards (`node.gpus`) go before what the NVIDIA tool tells.
 */
import { freemem } from 'node:os';
import type { Config } from '../runtime/config.ts';
import { runProgram } from '../runtime/run-program.ts';
import type { CardRoom, Room } from '../scheduling/fit.ts';
import { sizeOf, sizesOf } from './estimate-size.ts';

const PROGRAM_TIMEOUT_MS = 5_000;
const MIB = 2 ** 20;

export interface RoomFlags {
  readonly gpu?: string | undefined;
  readonly ram?: string | undefined;
  readonly backend: string;
}

/** Null where nothing was given and this machine has no card: then there is nothing to fit into. */
export async function readRoom(
  flags: RoomFlags,
  config: () => Promise<Config>,
): Promise<Room | null> {
  const ram = flags.ram === undefined ? null : sizeOf(flags.ram, '--ram');
  if (flags.backend === 'cpu') return roomOf([], ram ?? freemem());
  const given = flags.gpu === undefined ? null : cardsOf(sizesOf(flags.gpu, '--gpu'));
  const cards = given ?? (await ownCards(config));
  if (cards.length === 0) return ram === null ? null : roomOf([], ram);
  return roomOf(cards, given === null ? (ram ?? freemem()) : ram);
}

const roomOf = (cards: readonly CardRoom[], ram: number | null): Room => ({
  cards,
  ram_free_bytes: ram,
  unified: false,
});

function cardsOf(sizes: readonly number[]): CardRoom[] {
  return sizes.map((bytes, index) => cardOf(index, bytes, bytes));
}

function cardOf(index: number, total: number | null, free: number | null): CardRoom {
  return {
    index,
    total_bytes: total,
    free_bytes: free,
    bandwidth_bytes_per_s: null,
    integrated: false,
  };
}

async function ownCards(config: () => Promise<Config>): Promise<readonly CardRoom[]> {
  const query = ['--query-gpu=index,memory.total,memory.free', '--format=csv,noheader,nounits'];
  const { stdout, failure } = await runProgram('nvidia-smi', query, {
    timeoutMs: PROGRAM_TIMEOUT_MS,
  });
  const told = failure === null ? linesOf(stdout) : [];
  const { gpus } = (await config()).node;
  if (gpus === undefined) return told;
  return gpus.map(({ vram_bytes }, index) =>
    cardOf(index, vram_bytes, told.find(card => card.index === index)?.free_bytes ?? vram_bytes),
  );
}

function linesOf(text: string): CardRoom[] {
  return text
    .trim()
    .split('\n')
    .flatMap(line => {
      const [index = Number.NaN, total = Number.NaN, free = Number.NaN] = line
        .split(',')
        .map(Number);
      const bytes = (mib: number): number | null => (Number.isFinite(mib) ? mib * MIB : null);
      return Number.isInteger(index) ? [cardOf(index, bytes(total), bytes(free))] : [];
    });
}
