/**
 * The settings of Ollama that no endpoint tells: as declared in our configuration, else as its
 * process was started with, else its own defaults.
 */

import { KvType } from '../../../protocol/model-profile.ts';
import { type EngineEnvironment, VisibleDevices } from '../../../protocol/node.ts';
import type { OllamaProcess } from './ollama-process.ts';

export interface DeclaredEnvironment {
  readonly num_parallel?: number | undefined;
  readonly kv_cache_type?: KvType | undefined;
  readonly flash_attention?: boolean | undefined;
  readonly max_loaded_models?: number | undefined;
  readonly max_queue?: number | undefined;
  readonly visible_devices?: string | undefined;
}

/** Null where Ollama decides by the model and the hardware. */
const DEFAULTS: EngineEnvironment = {
  ...{ num_parallel: 1, kv_type: 'f16', flash_attention: null },
  ...{ max_loaded_models: 0, max_queue: 512, source: 'default' },
};

export function environmentOf(
  declared: DeclaredEnvironment,
  process: OllamaProcess | null,
): EngineEnvironment {
  const known = process === null ? DEFAULTS : { ...DEFAULTS, ...readProcess(process) };
  const said = {
    num_parallel: declared.num_parallel,
    kv_type: declared.kv_cache_type,
    flash_attention: declared.flash_attention,
    max_loaded_models: declared.max_loaded_models,
    max_queue: declared.max_queue,
    visible_devices: everySort(declared.visible_devices),
  };
  const given = Object.fromEntries(Object.entries(said).filter(([, value]) => value !== undefined));
  if (Object.keys(given).length === 0) return known;
  return { ...known, ...given, source: 'declared' };
}

function readProcess({ environment }: OllamaProcess): Partial<EngineEnvironment> {
  const count = (name: string): number | undefined => {
    const value = environment[name];
    return value !== undefined && /^\d+$/.test(value) ? Number(value) : undefined;
  };
  const parallel = count('OLLAMA_NUM_PARALLEL');
  const found = {
    // 0 means what Ollama does by itself.
    num_parallel: parallel === 0 || parallel === undefined ? undefined : Math.min(parallel, 1_024),
    kv_type: KvType.safeParse(environment['OLLAMA_KV_CACHE_TYPE']?.toLowerCase()).data,
    flash_attention: switched(environment['OLLAMA_FLASH_ATTENTION']),
    max_loaded_models: count('OLLAMA_MAX_LOADED_MODELS'),
    max_queue: count('OLLAMA_MAX_QUEUE'),
    visible_devices: visibleOf(environment),
  };
  const given = Object.entries(found).filter(([, value]) => value !== undefined);
  return { ...Object.fromEntries(given), source: 'process' };
}

function switched(value: string | undefined): boolean | undefined {
  if (value === undefined || value === '') return undefined;
  return !/^(0|f|false)$/i.test(value);
}

/** Undefined where it sees all cards. */
function visibleOf(environment: OllamaProcess['environment']): VisibleDevices | undefined {
  const found = Object.keys(VisibleDevices.shape).flatMap(name => {
    const value = environment[name];
    return value === undefined ? [] : [[name, value]];
  });
  return found.length === 0 ? undefined : VisibleDevices.safeParse(Object.fromEntries(found)).data;
}

/** One list, for whichever cards the machine has. */
function everySort(list: string | undefined): VisibleDevices | undefined {
  if (list === undefined) return undefined;
  // HIP goes by CUDA's numbers, and would count what ROCr has left.
  const isNumbers = /^[-\d,\s]+$/.test(list);
  return {
    ...{ CUDA_VISIBLE_DEVICES: list, GGML_VK_VISIBLE_DEVICES: list },
    ...(isNumbers ? {} : { ROCR_VISIBLE_DEVICES: list }),
  };
}
