/**
 * Shapes of well-known models for tests: metadata and tensors as their files hold them, generated
 * from published hyperparameters, and the mixtures of element types of llama.cpp's quantiser.
 */
import { ggmlTypeOfName, tensorBytes } from './ggml-types.ts';

export interface TestTensor {
  readonly name: string;
  readonly type: string;
  readonly shape: readonly number[];
}

export type TestValue = string | number | boolean | readonly number[] | readonly boolean[];

export interface TestModel {
  readonly metadata: Readonly<Record<string, TestValue>>;
  readonly tensors: readonly TestTensor[];
  readonly vocabulary: number;
}

export interface Shape {
  readonly architecture: string;
  readonly layers: number;
  readonly embd: number;
  readonly heads: number;
  /** One for all layers, or one each; 0 where a layer has no attention. */
  readonly kv: number | readonly number[];
  readonly head: number;
  readonly valueHead?: number;
  readonly ff: number | readonly number[];
  readonly vocabulary: number;
  readonly context: number;
  readonly tied?: boolean;
  readonly bias?: boolean;
  readonly qkNorm?: boolean;
  readonly postNorms?: boolean;
  readonly fused?: boolean;
  readonly experts?: {
    readonly count: number;
    readonly used: number;
    readonly ff: number;
    readonly shared?: number;
    readonly dense?: number;
    readonly bias?: boolean;
  };
  readonly window?: number;
  readonly pattern?: readonly boolean[];
  readonly headSwa?: number;
  readonly sharedKv?: number;
  /** Embeddings of every layer for every token, kept by the host. */
  readonly perLayer?: number;
  readonly mla?: {
    readonly rank: number;
    readonly rope: number;
    readonly key: number;
    readonly value: number;
    readonly q?: number;
  };
  /** Gated delta net layers: all but each `interval`-th. */
  readonly delta?: {
    readonly interval: number;
    readonly inner: number;
    readonly state: number;
    readonly groups: number;
    readonly heads: number;
  };
  /** Mamba-2 layers where `kv` is 0 (and, of Nemotron-H, `ff` too). */
  readonly mamba?: {
    readonly inner: number;
    readonly state: number;
    readonly groups: number;
    readonly heads: number;
  };
  readonly nextn?: number;
  /** Layers that look at images alone. */
  readonly cross?: readonly number[];
  /** Tokens that a short convolution sees, in layers where `kv` is 0. */
  readonly convolved?: number;
  /** Tensors besides, such as those of a tower for images. */
  readonly besides?: readonly Named[];
  /** Sparse attention: which tokens a layer looks at is chosen by heads of their own. */
  readonly index?: { readonly heads: number; readonly key: number; readonly top: number };
  readonly more?: Readonly<Record<string, TestValue>>;
}

type Named = readonly [name: string, shape: readonly number[]];
const at = (value: number | readonly number[], layer: number): number =>
  typeof value === 'number' ? value : (value[layer] ?? 0);

/** Tensors of one model in the order of its file, quantised as `llama-quantize` would. */
export function testModel(shape: Shape, mixture: string): TestModel {
  const named: Named[] = [['token_embd.weight', [shape.embd, shape.vocabulary]]];
  if (shape.perLayer !== undefined) {
    const width = shape.perLayer * shape.layers;
    named.push(['per_layer_token_embd.weight', [width, shape.vocabulary]]);
    named.push(['per_layer_model_proj.weight', [shape.embd, width]]);
    named.push(['per_layer_proj_norm.weight', [shape.perLayer]]);
  }
  for (let layer = 0; layer < shape.layers; layer++) {
    for (const [name, size] of blockOf(shape, layer)) named.push([`blk.${layer}.${name}`, size]);
  }
  named.push(['output_norm.weight', [shape.embd]]);
  if (shape.architecture === 'gemma4') named.push(['rope_freqs.weight', [shape.head / 2]]);
  if (shape.tied !== true) named.push(['output.weight', [shape.embd, shape.vocabulary]]);
  named.push(...(shape.besides ?? []));
  return {
    metadata: metadataOf(shape),
    tensors: named.map(([name, size]) => ({
      name,
      shape: size,
      type: typeOf(name, size, shape, mixture),
    })),
    vocabulary: shape.vocabulary,
  };
}

export function fileBytes(model: TestModel): number {
  return model.tensors.reduce((sum, tensor) => sum + bytesOf(tensor), 0);
}

export function bytesOf({ type, shape }: TestTensor): number {
  const known = ggmlTypeOfName(type);
  if (known === null) throw new Error(`no such type: ${type}`);
  return tensorBytes(known, shape);
}

function metadataOf(shape: Shape): Record<string, TestValue> {
  const a = shape.architecture;
  const all: Record<string, TestValue | undefined> = {
    'general.architecture': a,
    [`${a}.block_count`]: shape.layers,
    [`${a}.context_length`]: shape.context,
    [`${a}.embedding_length`]: shape.embd,
    [`${a}.feed_forward_length`]: shape.ff,
    [`${a}.attention.head_count`]: shape.heads,
    [`${a}.attention.head_count_kv`]: shape.mla === undefined || shape.mla.key === 0 ? shape.kv : 1,
    [`${a}.attention.key_length`]: shape.head,
    [`${a}.attention.value_length`]: shape.valueHead ?? shape.head,
    [`${a}.rope.dimension_count`]: shape.mla?.rope ?? shape.head,
    [`${a}.attention.sliding_window`]: shape.window,
    [`${a}.attention.sliding_window_pattern`]: shape.pattern,
    [`${a}.attention.key_length_swa`]: shape.headSwa,
    [`${a}.attention.value_length_swa`]: shape.headSwa,
    [`${a}.attention.shared_kv_layers`]: shape.sharedKv,
    [`${a}.embedding_length_per_layer_input`]: shape.perLayer,
    [`${a}.expert_count`]: shape.experts?.count,
    [`${a}.expert_used_count`]: shape.experts?.used,
    [`${a}.expert_feed_forward_length`]: shape.experts?.ff,
    [`${a}.leading_dense_block_count`]: shape.experts?.dense,
    [`${a}.expert_shared_count`]:
      (shape.mla ?? shape.index) === undefined || shape.experts?.shared === undefined
        ? undefined
        : Math.round(shape.experts.shared / shape.experts.ff),
    [`${a}.expert_shared_feed_forward_length`]: shape.experts?.shared,
    [`${a}.attention.kv_lora_rank`]: shape.mla?.rank,
    [`${a}.attention.q_lora_rank`]: shape.mla?.q,
    [`${a}.attention.key_length_mla`]: shape.mla?.key === 0 ? undefined : shape.mla?.key,
    [`${a}.attention.value_length_mla`]: shape.mla?.key === 0 ? undefined : shape.mla?.value,
    [`${a}.full_attention_interval`]: shape.delta?.interval,
    [`${a}.ssm.conv_kernel`]:
      shape.delta === undefined && shape.mamba === undefined ? undefined : 4,
    [`${a}.ssm.inner_size`]: (shape.delta ?? shape.mamba)?.inner,
    [`${a}.ssm.state_size`]: (shape.delta ?? shape.mamba)?.state,
    [`${a}.ssm.group_count`]: (shape.delta ?? shape.mamba)?.groups,
    [`${a}.ssm.time_step_rank`]: (shape.delta ?? shape.mamba)?.heads,
    [`${a}.nextn_predict_layers`]: shape.nextn,
    [`${a}.attention.cross_attention_layers`]: shape.cross,
    [`${a}.shortconv.l_cache`]: shape.convolved,
    [`${a}.attention.indexer.head_count`]: shape.index?.heads,
    [`${a}.attention.indexer.key_length`]: shape.index?.key,
    [`${a}.attention.indexer.top_k`]: shape.index?.top,
    [`${a}.attention.layer_norm_rms_epsilon`]: 1e-6,
    [`${a}.attention.layer_norm_epsilon`]: 1e-5,
    [`${a}.rope.freq_base`]: 1e6,
    ...shape.more,
  };
  return Object.fromEntries(
    Object.entries(all).filter((entry): entry is [string, TestValue] => entry[1] !== undefined),
  );
}

function blockOf(shape: Shape, layer: number): Named[] {
  const { embd, delta, mamba, nextn = 0 } = shape;
  const block: Named[] = [['attn_norm.weight', [embd]]];
  const recurrent =
    delta !== undefined && (layer + 1) % delta.interval !== 0 && layer < shape.layers - nextn;
  if (recurrent) block.push(...deltaOf(delta, embd));
  else if (shape.cross?.includes(layer) === true) block.push(...crossOf(shape, layer));
  else if (at(shape.kv, layer) > 0)
    block.push(...(shape.mla === undefined ? attentionOf(shape, layer) : latentOf(shape)));
  else if (
    mamba !== undefined &&
    (at(shape.ff, layer) === 0 || shape.architecture !== 'nemotron_h')
  )
    block.push(...mambaOf(mamba, embd));
  else if (shape.convolved !== undefined) block.push(...convolutionOf(shape.convolved, embd));
  block.push(...indexOf(shape, layer));
  if (delta !== undefined) block.push(['post_attention_norm.weight', [embd]]);
  block.push(...feedForwardOf(shape, layer));
  if (shape.postNorms === true) {
    block.push(['post_attention_norm.weight', [embd]], ['post_ffw_norm.weight', [embd]]);
  }
  if (layer >= shape.layers - nextn) {
    block.push(
      ['nextn.eh_proj.weight', [2 * embd, embd]],
      ['nextn.enorm.weight', [embd]],
      ['nextn.hnorm.weight', [embd]],
    );
  }
  if (shape.perLayer !== undefined) {
    block.push(
      ['inp_gate.weight', [embd, shape.perLayer]],
      ['proj.weight', [shape.perLayer, embd]],
      ['post_norm.weight', [embd]],
    );
  }
  return block;
}

function attentionOf(shape: Shape, layer: number): Named[] {
  const { embd, heads } = shape;
  const sliding = shape.pattern?.[layer] === true;
  const head = sliding ? (shape.headSwa ?? shape.head) : shape.head;
  const value = sliding ? (shape.headSwa ?? shape.head) : (shape.valueHead ?? shape.head);
  const kv = at(shape.kv, layer);
  const gate = shape.delta === undefined ? 1 : 2;
  const out: Named = ['attn_output.weight', [value * heads, embd]];
  if (shape.fused === true) return [['attn_qkv.weight', [embd, head * (heads + 2 * kv)]], out];
  return [
    ['attn_q.weight', [embd, head * heads * gate]],
    ['attn_k.weight', [embd, head * kv]],
    ['attn_v.weight', [embd, value * kv]],
    out,
    ...(shape.bias === true
      ? ([
          ['attn_q.bias', [head * heads]],
          ['attn_k.bias', [head * kv]],
          ['attn_v.bias', [value * kv]],
        ] as Named[])
      : []),
    ...(shape.experts?.bias === true
      ? ([
          ['attn_output.bias', [embd]],
          ['attn_sinks.weight', [heads]],
        ] as Named[])
      : []),
    ...(shape.qkNorm === true || shape.delta !== undefined
      ? ([
          ['attn_q_norm.weight', [head]],
          ['attn_k_norm.weight', [head]],
        ] as Named[])
      : []),
  ];
}

/** Queries of the text, keys and values of the image. */
function crossOf({ embd, heads, head, kv }: Shape, layer: number): Named[] {
  return [
    ['cross_attn_q_proj.weight', [embd, head * heads]],
    ['cross_attn_k_proj.weight', [embd, head * at(kv, layer)]],
    ['cross_attn_v_proj.weight', [embd, head * at(kv, layer)]],
    ['cross_attn_o_proj.weight', [head * heads, embd]],
  ];
}

function convolutionOf(tokens: number, embd: number): Named[] {
  return [
    ['shortconv.conv.weight', [tokens, embd]],
    ['shortconv.in_proj.weight', [embd, 3 * embd]],
    ['shortconv.out_proj.weight', [embd, embd]],
  ];
}

/** By the latent query where there is one (DeepSeek 3.2), else by the hidden state (MiniMax M3). */
function indexOf({ embd, index, mla, experts }: Shape, layer: number): Named[] {
  if (index === undefined) return [];
  const { heads, key } = index;
  if (mla?.q === undefined) {
    if (layer < (experts?.dense ?? 0)) return [];
    return [
      ['indexer.q_proj.weight', [embd, heads * key]],
      ['indexer.k_proj.weight', [embd, key]],
      ['indexer.q_norm.weight', [key]],
      ['indexer.k_norm.weight', [key]],
    ];
  }
  return [
    ['indexer.k_norm.weight', [key]],
    ['indexer.k_norm.bias', [key]],
    ['indexer.proj.weight', [embd, heads]],
    ['indexer.attn_k.weight', [embd, key]],
    ['indexer.attn_q_b.weight', [mla.q, heads * key]],
  ];
}

function latentOf({ embd, heads, mla, head }: Shape): Named[] {
  if (mla === undefined) return [];
  const key = mla.key === 0 ? head : mla.key;
  const nope = key - mla.rope;
  const query: Named[] =
    mla.q === undefined
      ? [['attn_q.weight', [embd, heads * key]]]
      : [
          ['attn_q_a.weight', [embd, mla.q]],
          ['attn_q_a_norm.weight', [mla.q]],
          ['attn_q_b.weight', [mla.q, heads * key]],
        ];
  return [
    ...query,
    ['attn_kv_a_mqa.weight', [embd, mla.rank + mla.rope]],
    ['attn_kv_a_norm.weight', [mla.rank]],
    ...(mla.key === 0
      ? ([['attn_kv_b.weight', [mla.rank, heads * (nope + mla.value)]]] as Named[])
      : ([
          ['attn_k_b.weight', [nope, mla.rank, heads]],
          ['attn_v_b.weight', [mla.rank, mla.value, heads]],
        ] as Named[])),
    ['attn_output.weight', [heads * mla.value, embd]],
  ];
}

function deltaOf(delta: NonNullable<Shape['delta']>, embd: number): Named[] {
  const keys = delta.state * delta.groups;
  return [
    ['attn_qkv.weight', [embd, 2 * keys + delta.inner]],
    ['attn_gate.weight', [embd, delta.inner]],
    ['ssm_conv1d.weight', [4, 2 * keys + delta.inner]],
    ['ssm_dt.bias', [delta.heads]],
    ['ssm_a', [delta.heads]],
    ['ssm_beta.weight', [embd, delta.heads]],
    ['ssm_alpha.weight', [embd, delta.heads]],
    ['ssm_norm.weight', [delta.inner / delta.heads]],
    ['ssm_out.weight', [delta.inner, embd]],
  ];
}

function mambaOf(mamba: NonNullable<Shape['mamba']>, embd: number): Named[] {
  const { inner, state, groups, heads } = mamba;
  const convolved = inner + 2 * groups * state;
  return [
    ['ssm_in.weight', [embd, inner + convolved + heads]],
    ['ssm_conv1d.weight', [4, convolved]],
    ['ssm_conv1d.bias', [convolved]],
    ['ssm_dt.bias', [heads]],
    ['ssm_a', [1, heads]],
    ['ssm_d', [1, heads]],
    ['ssm_norm.weight', [inner / groups, groups]],
    ['ssm_out.weight', [inner, embd]],
  ];
}

function feedForwardOf(shape: Shape, layer: number): Named[] {
  const { embd, experts } = shape;
  const ff = at(shape.ff, layer);
  const normName = /^gpt-?oss$/.test(shape.architecture) ? 'post_attention_norm' : 'ffn_norm';
  const norm: Named[] =
    shape.delta === undefined && shape.architecture !== 'nemotron_h'
      ? [[`${normName}.weight`, [embd]]]
      : [];
  if (experts !== undefined && layer >= (experts.dense ?? 0)) {
    const { count, shared = 0, bias = false } = experts;
    return [
      ...norm,
      ['ffn_gate_inp.weight', [embd, count]],
      ...(shape.index === undefined ? [] : ([['exp_probs_b.bias', [count]]] as Named[])),
      ['ffn_gate_exps.weight', [embd, experts.ff, count]],
      ['ffn_down_exps.weight', [experts.ff, embd, count]],
      ['ffn_up_exps.weight', [embd, experts.ff, count]],
      ...(bias
        ? ([
            ['ffn_gate_inp.bias', [count]],
            ['ffn_gate_exps.bias', [experts.ff, count]],
            ['ffn_down_exps.bias', [embd, count]],
            ['ffn_up_exps.bias', [experts.ff, count]],
          ] as Named[])
        : []),
      ...(shared > 0
        ? ([
            ['ffn_gate_shexp.weight', [embd, shared]],
            ['ffn_down_shexp.weight', [shared, embd]],
            ['ffn_up_shexp.weight', [embd, shared]],
          ] as Named[])
        : []),
      ...(shared > 0 && shape.mla === undefined && shape.index === undefined
        ? ([['ffn_gate_inp_shexp.weight', [embd]]] as Named[])
        : []),
    ];
  }
  if (ff === 0) return norm;
  if (shape.fused === true)
    return [...norm, ['ffn_up.weight', [embd, 2 * ff]], ['ffn_down.weight', [ff, embd]]];
  if (shape.architecture === 'nemotron_h')
    return [
      ['ffn_up.weight', [embd, ff]],
      ['ffn_down.weight', [ff, embd]],
    ];
  return [
    ...norm,
    ['ffn_gate.weight', [embd, ff]],
    ['ffn_down.weight', [ff, embd]],
    ['ffn_up.weight', [embd, ff]],
  ];
}

/** Layers that get more bits in the `_M` mixtures. */
function moreBits(layer: number, layers: number): boolean {
  const eighth = Math.floor(layers / 8);
  return layer < eighth || layer >= Math.floor((7 * layers) / 8) || (layer - eighth) % 3 === 2;
}

const BASE: Readonly<Record<string, string>> = {
  Q4_K_M: 'Q4_K',
  Q4_K_S: 'Q4_K',
  Q5_K_M: 'Q5_K',
  MXFP4: 'Q8_0',
};
const FALLBACK: Readonly<Record<string, string>> = { Q4_K: 'Q5_0', Q5_K: 'Q5_1', Q6_K: 'Q8_0' };

function typeOf(name: string, size: readonly number[], shape: Shape, mixture: string): string {
  const kept =
    /ffn_gate_inp|ssm_conv1d|shortconv\.conv|ssm_(a|d)$|\.bias$|_norm\.weight$|sinks|proj_norm|rope_freqs/;
  if (size.length === 1 || kept.test(name)) return 'F32';
  const base = BASE[mixture] ?? mixture;
  const wanted = mixed(name, size, shape, mixture, base);
  const known = ggmlTypeOfName(wanted);
  const [row = 0] = size;
  return known !== null && row % known.block_elements !== 0 ? (FALLBACK[wanted] ?? 'F16') : wanted;
}

function mixed(
  name: string,
  size: readonly number[],
  shape: Shape,
  mixture: string,
  base: string,
): string {
  const output = name === 'output.weight' || (shape.tied === true && name === 'token_embd.weight');
  if (mixture === 'MXFP4') return size.length === 3 ? 'MXFP4' : 'Q8_0';
  if (/^(F16|BF16|F32|Q8_0)$/.test(base)) return base;
  if (output) return 'Q6_K';
  const layer = Number(/^blk\.(\d+)\./.exec(name)?.[1] ?? -1);
  const eight = shape.experts?.count === 8;
  if (/attn_(v|kv_b|v_b)\.weight/.test(name)) {
    if (eight) return 'Q8_0';
    if (mixture.endsWith('K_M') && moreBits(layer, shape.layers)) return 'Q6_K';
    return mixture === 'Q4_K_S' && layer < 4 ? 'Q5_K' : base;
  }
  if (/attn_k\.weight/.test(name) && eight) return 'Q8_0';
  if (/ffn_down(_exps|_shexp)?\.weight/.test(name)) {
    if (mixture.endsWith('K_M') && moreBits(layer, shape.layers)) return 'Q6_K';
    return mixture === 'Q4_K_S' && layer < Math.floor(shape.layers / 8) ? 'Q5_K' : base;
  }
  if (/attn_qkv\.weight/.test(name) && mixture === 'Q4_K_M') return 'Q5_K';
  if (/attn_qkv\.weight/.test(name) && mixture === 'Q5_K_M') return 'Q6_K';
  if (/attn_output\.weight/.test(name) && eight && base === 'Q4_K') return 'Q5_K';
  return base;
}
