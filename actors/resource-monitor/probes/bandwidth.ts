/**
 * Memory bandwidth by the name of a card, from the makers' data sheets: what bounds the speed at
 * which a model writes. Null for a card that is not listed.
 *
 * B1: the first match wins, so the longer name stands before the shorter (`4070 Ti` before `4070`).
 * B2: where one name was sold with several memories, the slowest counts.
 */

const GB = 1e9;

/** GB/s, then names separated by `|`, each a piece of a regular expression. */
const LAPTOP: readonly (readonly [number, string])[] = [
  [896, 'rtx 5090|rtx 5080'],
  [672, 'rtx 5070 ti'],
  [576, 'rtx 4090'],
  [512, 'rtx 3080 ti'],
  [448, 'rtx 3080|rtx 3070'],
  [432, 'rtx 4080'],
  [384, 'rtx 50[567]0'],
  [336, 'rtx 3060|rtx 2060'],
  [256, 'rtx 40[67]0'],
  [192, 'rtx 4050|rtx 3050'],
];

const CARDS: readonly (readonly [number, string])[] = [
  // NVIDIA, data centre
  [8_000, 'b[23]00|gb[23]00'],
  [4_800, 'h200'],
  [4_000, 'gh200|h20\\b'],
  [3_900, 'h100 nvl'],
  [2_000, 'h100 pcie'],
  [3_350, 'h100'],
  [2_039, 'a100-sxm\\d?-80gb'],
  [1_935, 'a100.*80gb'],
  [1_555, 'a100'],
  [933, 'a30\\b'],
  [900, 'v100'],
  [864, 'l40s?\\b'],
  [696, 'a40\\b'],
  [600, 'a10g?\\b'],
  [320, '\\bt4\\b'],
  [300, '\\bl4\\b'],
  [200, '\\ba2\\b|\\ba16\\b'],
  // NVIDIA, workstation
  [1_792, 'rtx pro 6000'],
  [1_344, 'rtx pro 5000'],
  [896, 'rtx pro 4500'],
  [672, 'rtx pro 4000|quadro rtx [68]000'],
  [960, 'rtx 6000 ada'],
  [576, 'rtx 5000 ada'],
  [432, 'rtx 4500 ada'],
  [280, 'rtx 4000 sff ada'],
  [360, 'rtx 4000 ada'],
  [224, 'rtx 2000 ada'],
  [768, 'rtx a6000|rtx a5500|rtx a5000'],
  [640, 'rtx a4500'],
  [448, 'rtx a4000'],
  [288, 'rtx a2000'],
  // NVIDIA, desktop
  [1_792, 'rtx 5090'],
  [960, 'rtx 5080'],
  [896, 'rtx 5070 ti'],
  [672, 'rtx 5070'],
  [448, 'rtx 5060'],
  [320, 'rtx 5050'],
  [1_008, 'rtx 4090|rtx 3090 ti'],
  [736, 'rtx 4080 super'],
  [717, 'rtx 4080'],
  [672, 'rtx 4070 ti super'],
  [504, 'rtx 4070'],
  [288, 'rtx 4060 ti'],
  [272, 'rtx 4060'],
  [936, 'rtx 3090'],
  [912, 'rtx 3080 ti'],
  [760, 'rtx 3080'],
  [608, 'rtx 3070 ti'],
  [616, 'rtx 2080 ti'],
  [448, 'rtx 3070|rtx 3060 ti|rtx 2080|rtx 2070'],
  [360, 'rtx 3060'],
  [224, 'rtx 3050'],
  [336, 'rtx 2060|gtx 1660 super'],
  [288, 'gtx 1660 ti'],
  [484, 'gtx 1080 ti'],
  [320, 'gtx 1080'],
  [256, 'gtx 1070'],
  [192, 'gtx 1660|gtx 1060'],
  // NVIDIA, unified memory
  [273, 'gb10|thor'],
  [204.8, 'agx orin'],
  [136.5, 'agx xavier'],
  [102.4, 'orin nx'],
  [68, 'orin nano'],
  // AMD
  [8_000, 'mi35[05]x'],
  [6_000, 'mi325x'],
  [5_300, 'mi300[xa]'],
  [3_277, 'mi250x?'],
  [1_638, 'mi210'],
  [1_229, 'mi100'],
  [1_024, 'mi[56]0|radeon vii'],
  [864, 'w7900'],
  [576, 'w7800'],
  [512, 'w6800'],
  [640, 'r9700|rx 9070 xt'],
  [432, 'rx 9070 gre'],
  [640, 'rx 9070'],
  [320, 'rx 9060'],
  [960, 'rx 7900 xtx'],
  [800, 'rx 7900 xt'],
  [576, 'rx 7900 gre'],
  [624, 'rx 7800'],
  [432, 'rx 7700'],
  [288, 'rx 7600'],
  [576, 'rx 6950'],
  [512, 'rx 6900|rx 6800'],
  [432, 'rx 6750'],
  [384, 'rx 6700 xt'],
  [320, 'rx 6700'],
  [280, 'rx 6650'],
  [256, 'rx 6600 xt'],
  [224, 'rx 6600'],
  [144, 'rx 6500'],
  [128, 'rx 6400'],
  [256, '80[56]0s'],
  // Apple
  [819, 'm3 ultra'],
  [800, 'm[12] ultra'],
  [460, 'm5 max'],
  [410, 'm4 max'],
  [400, 'm[12] max'],
  [300, 'm3 max'],
  [307, 'm5 pro'],
  [273, 'm4 pro'],
  [150, 'm3 pro'],
  [200, 'm[12] pro'],
  [153, 'apple m5'],
  [120, 'apple m4'],
  [100, 'apple m[23]'],
  [68, 'apple m1'],
  // Intel
  [3_277, 'max 1550'],
  [1_229, 'max 1100'],
  [512, 'a7[57]0'],
  [512, 'a580'],
  [456, 'b580|b60'],
  [380, 'b570'],
  [224, 'b50'],
  [186, 'a380'],
  [124, 'a310'],
];

const compiled = (table: typeof CARDS) =>
  table.map(([rate, names]) => ({
    bytesPerS: rate * GB,
    name: new RegExp(`(^|[^a-z0-9])(${names})($|[^0-9])`, 'i'),
  }));
const TABLES = { laptop: compiled(LAPTOP), desktop: compiled(CARDS) };

/** Bytes per second; null where the name is not on the list. */
export function bandwidthOf(name: string): number | null {
  const table = /laptop|mobile/i.test(name) ? TABLES.laptop : TABLES.desktop;
  return table.find(row => row.name.test(name))?.bytesPerS ?? null;
}
