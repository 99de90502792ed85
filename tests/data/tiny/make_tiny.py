#!/usr/bin/env python3
"""The tiny models: GGUF files of random weights, and what transformers' own modelling code makes of them.

    make_tiny.py OUTDIR [NAME...]            writes NAME.gguf and NAME.json; the first six have their GGUF already, in this folder
    make_tiny.py --golden OUTDIR [NAME...]   NAME.json alone, from the GGUF files in this folder

A GGUF file's tensors are dequantised by gguf-py into the transformers model of the same configuration, whose logits in fp32 are
the golden: NAME.json holds the input ids, the logits at the last position, the ten likeliest ids with their log-probabilities at
every position, and the mean negative log-likelihood. Names of tensors and keys are gguf-py's.
Needs the PyPI packages torch, transformers, gguf and numpy."""
import argparse
import json
import math
import os

import numpy as np
import torch
import transformers as hf
from gguf import MODEL_ARCH_NAMES, GGMLQuantizationType as Q, GGUFReader, GGUFWriter, RopeScalingType, get_tensor_name_map
from gguf.quants import dequantize, quantize

HERE = os.path.dirname(os.path.abspath(__file__))
VOCAB = 512
TOKENS = 40
PHI_LONG = [1.0 + 0.7 * j for j in range(12)]
PHI_SHORT = [1.0 + 0.05 * j for j in range(12)]
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32)


def base(**more):
    return dict(dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                     num_key_value_heads=2, max_position_embeddings=512, rms_norm_eps=1e-5, tie_word_embeddings=True,
                     bos_token_id=None, eos_token_id=None, pad_token_id=None), **more)


def old(**more):
    return base(**dict(dict(hidden_size=256, intermediate_size=512), **more))


def phi(**more):
    rope = dict(rope_type="longrope", rope_theta=10000.0, original_max_position_embeddings=16,
                partial_rotary_factor=more.pop("partial", 1.0))
    dims = int(more["head_dim"] * rope["partial_rotary_factor"]) // 2
    rope.update(long_factor=PHI_LONG[:dims], short_factor=PHI_SHORT[:dims])
    head_dim = more.pop("head_dim")
    return hf.Phi3Config(**base(original_max_position_embeddings=16, rope_parameters=rope, **more))


def layers(count, period):
    return ["full_attention" if (i + 1) % period == 0 else "sliding_attention" for i in range(count)]


# Name: the architecture in GGUF, the configuration. What the file says of it is in `describe`.
SPECS = {
    "tiny-llama": ("llama", lambda: hf.LlamaConfig(**old(rope_parameters=dict(rope_type="default", rope_theta=1e4), tie_word_embeddings=False))),
    "tiny-llama3rope": ("llama", lambda: hf.LlamaConfig(**old(rope_parameters=dict(
        rope_type="llama3", rope_theta=5e5, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)))),
    "tiny-qwen2": ("qwen2", lambda: hf.Qwen2Config(**old(rope_parameters=dict(rope_type="default", rope_theta=1e6)))),
    "tiny-qwen3": ("qwen3", lambda: hf.Qwen3Config(**old(head_dim=128, rope_parameters=dict(rope_type="default", rope_theta=1e6), tie_word_embeddings=False))),
    "tiny-qwen3moe": ("qwen3moe", lambda: hf.Qwen3MoeConfig(**old(
        head_dim=64, rope_parameters=dict(rope_type="default", rope_theta=1e6), num_experts=8, num_experts_per_tok=3, moe_intermediate_size=256,
        norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[], tie_word_embeddings=False))),
    "tiny-gemma3": ("gemma3", lambda: hf.Gemma3TextConfig(**old(
        num_hidden_layers=7, intermediate_size=256, rms_norm_eps=1e-6, head_dim=128, query_pre_attn_scalar=128, sliding_window=16,
        layer_types=layers(7, 6), rope_parameters=dict(full_attention=dict(rope_type="default", rope_theta=1e6),
                                                       sliding_attention=dict(rope_type="default", rope_theta=1e4))))),
    # Mistral Nemo: heads are wider than their share of the width.
    "tiny-nemo": ("llama", lambda: hf.MistralConfig(**base(num_hidden_layers=1, head_dim=32, sliding_window=None, rope_parameters=dict(rope_type="default", rope_theta=1e6)))),
    "tiny-mistral3": ("mistral3", lambda: hf.Ministral3Config(**base(head_dim=32, rope_parameters=dict(
        rope_type="yarn", rope_theta=1e6, factor=16.0, original_max_position_embeddings=16, max_position_embeddings=256, beta_fast=4.0,
        beta_slow=0.5, mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.3)))),
    "tiny-linear": ("llama", lambda: hf.LlamaConfig(**base(rope_parameters=dict(rope_type="linear", rope_theta=1e4, factor=4.0), attention_bias=True, mlp_bias=True))),
    "tiny-yarn": ("qwen2", lambda: hf.Qwen2Config(**base(rope_parameters=dict(YARN, rope_theta=1e4)))),
    "tiny-qwen3moe-raw": ("qwen3moe", lambda: hf.Qwen3MoeConfig(**base(
        num_hidden_layers=1, head_dim=16, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=32, norm_topk_prob=False,
        decoder_sparse_step=1, mlp_only_layers=[], rope_parameters=dict(YARN, rope_theta=1e6)))),
    "tiny-qwen2moe": ("qwen2moe", lambda: hf.Qwen2MoeConfig(**base(
        num_hidden_layers=1, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=32, shared_expert_intermediate_size=64,
        norm_topk_prob=False, decoder_sparse_step=1, mlp_only_layers=[], rope_parameters=dict(rope_type="default", rope_theta=1e6)))),
    "tiny-mixtral": ("llama", lambda: hf.MixtralConfig(**base(
        num_hidden_layers=1, intermediate_size=32, num_local_experts=6, num_experts_per_tok=2, sliding_window=None,
        rope_parameters=dict(rope_type="default", rope_theta=1e6)))),
    "tiny-gemma": ("gemma", lambda: hf.GemmaConfig(**base(head_dim=32, num_key_value_heads=1))),
    "tiny-gemma2": ("gemma2", lambda: hf.Gemma2Config(**base(
        head_dim=16, query_pre_attn_scalar=16, attn_logit_softcapping=5.0, final_logit_softcapping=6.0, sliding_window=12,
        layer_types=layers(2, 2)))),
    "tiny-gemma3-scaled": ("gemma3", lambda: hf.Gemma3TextConfig(**base(
        num_hidden_layers=6, intermediate_size=32, head_dim=16, query_pre_attn_scalar=16, sliding_window=12, layer_types=layers(6, 6),
        rope_parameters=dict(full_attention=dict(rope_type="linear", rope_theta=1e6, factor=8.0),
                             sliding_attention=dict(rope_type="default", rope_theta=1e4))))),
    "tiny-phi3": ("phi3", lambda: phi(head_dim=16, tie_word_embeddings=False, sliding_window=24)),
    "tiny-phi4mini": ("phi3", lambda: phi(head_dim=32, num_attention_heads=2, num_key_value_heads=1, num_hidden_layers=1, partial=0.75)),
    "tiny-smollm3": ("smollm3", lambda: hf.SmolLM3Config(**base(
        num_hidden_layers=4, intermediate_size=32, rope_parameters=dict(rope_type="default", rope_theta=1e4), use_sliding_window=False))),
    "tiny-olmo2": ("olmo2", lambda: hf.Olmo2Config(**base(rope_parameters=dict(rope_type="default", rope_theta=5e5)))),
    "tiny-olmo3": ("olmo2", lambda: hf.Olmo3Config(**base(
        num_hidden_layers=4, intermediate_size=32, sliding_window=12, layer_types=layers(4, 4),
        rope_parameters=dict(full_attention=dict(YARN, rope_theta=1e4, attention_factor=1.2),
                             sliding_attention=dict(rope_type="default", rope_theta=1e4))))),
    "tiny-granite": ("granite", lambda: hf.GraniteConfig(**base(
        embedding_multiplier=6.0, attention_multiplier=0.15, residual_multiplier=0.22, logits_scaling=0.4,
        rope_parameters=dict(rope_type="default", rope_theta=1e4)))),
    "tiny-granitemoe": ("granitemoe", lambda: hf.GraniteMoeConfig(**base(
        num_hidden_layers=1, intermediate_size=32, num_local_experts=6, num_experts_per_tok=2, embedding_multiplier=6.0,
        attention_multiplier=0.15, residual_multiplier=0.4, logits_scaling=0.4, rope_parameters=dict(rope_type="default", rope_theta=1e4)))),
}
# Too large to keep: models of so many layers that they take another scale of scores. They are made where they are wanted.
DEEP = {
    "deep-gemma2": ("gemma2", lambda: hf.Gemma2Config(**base(
        num_hidden_layers=46, num_attention_heads=2, num_key_value_heads=1, intermediate_size=32, head_dim=16, query_pre_attn_scalar=32,
        attn_logit_softcapping=50.0, final_logit_softcapping=30.0, sliding_window=12, layer_types=layers(46, 2)))),
    "deep-gemma3": ("gemma3", lambda: hf.Gemma3TextConfig(**base(
        num_hidden_layers=62, num_attention_heads=2, num_key_value_heads=1, intermediate_size=32, head_dim=16, query_pre_attn_scalar=32,
        sliding_window=12, layer_types=layers(62, 6), rope_parameters=dict(full_attention=dict(rope_type="linear", rope_theta=1e6, factor=8.0),
                                                                           sliding_attention=dict(rope_type="default", rope_theta=1e4))))),
}
FIRST = list(SPECS)[:6]
SHORT = {"tiny-phi3-short": ("tiny-phi3", 16), "tiny-phi4mini-short": ("tiny-phi4mini", 16)}  # the same files, fewer tokens
EXPERT_SCALE = {"tiny-qwen3moe-raw": 2.5}


def head_dim(c):
    return getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads


def describe_rope(w, arch, c):
    """RoPE's keys, as the converters write them."""
    rope = c.rope_parameters
    swa = rope.get("sliding_attention")
    rope = rope.get("full_attention", rope)
    if arch not in ("gemma", "gemma2"):
        w.add_rope_freq_base(float(rope["rope_theta"]))
    if arch in ("llama", "mistral3", "smollm3", "granite", "granitemoe"):
        w.add_rope_dimension_count(head_dim(c))
    kind = rope["rope_type"]
    if kind == "linear":
        w.add_rope_scaling_type(RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(rope["factor"])
    if kind == "yarn":
        w.add_rope_scaling_type(RopeScalingType.YARN)
        w.add_rope_scaling_factor(rope["factor"])
        w.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        for key, add in (("attention_factor", w.add_rope_scaling_yarn_attn_factor), ("beta_fast", w.add_rope_scaling_yarn_beta_fast),
                         ("beta_slow", w.add_rope_scaling_yarn_beta_slow), ("mscale_all_dim", w.add_rope_scaling_yarn_log_mul),
                         ("llama_4_scaling_beta", w.add_attn_temperature_scale)):
            if rope.get(key) is not None:
                add(float(rope[key]))
    if kind == "longrope":
        was = rope["original_max_position_embeddings"]
        w.add_rope_dimension_count(2 * len(rope["long_factor"]))
        w.add_rope_scaling_orig_ctx_len(was)
        w.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(c.max_position_embeddings / was) / math.log(was)))
        w.add_tensor("rope_factors_long.weight", np.array(rope["long_factor"], np.float32))
        w.add_tensor("rope_factors_short.weight", np.array(rope["short_factor"], np.float32))
    assert swa is None or swa["rope_type"] == "default"


def describe(w, name, arch, c):
    """Everything but RoPE."""
    w.add_name(name)
    w.add_tokenizer_model("no_vocab")
    w.add_vocab_size(c.vocab_size)
    w.add_context_length(c.max_position_embeddings)
    w.add_embedding_length(c.hidden_size)
    w.add_block_count(c.num_hidden_layers)
    w.add_feed_forward_length(c.intermediate_size)
    w.add_head_count(c.num_attention_heads)
    w.add_head_count_kv(c.num_key_value_heads)
    w.add_layer_norm_rms_eps(c.rms_norm_eps)
    if getattr(c, "head_dim", None):
        w.add_key_length(c.head_dim)
        w.add_value_length(c.head_dim)
    if arch == "phi3":
        w.add_sliding_window(c.sliding_window or 0)
    elif "sliding_attention" in (getattr(c, "layer_types", None) or []):
        w.add_sliding_window(c.sliding_window)
        if arch == "olmo2":
            w.add_sliding_window_pattern([t == "sliding_attention" for t in c.layer_types])
    if arch == "gemma2":
        w.add_attn_logit_softcapping(c.attn_logit_softcapping)
        w.add_final_logit_softcapping(c.final_logit_softcapping)
    if arch.startswith("granite"):
        w.add_attention_scale(c.attention_multiplier)
        w.add_embedding_scale(c.embedding_multiplier)
        w.add_residual_scale(c.residual_multiplier)
        w.add_logit_scale(c.logits_scaling)
    experts = getattr(c, "num_experts", None) or getattr(c, "num_local_experts", None)
    if experts:
        w.add_expert_count(experts)
        w.add_expert_used_count(c.num_experts_per_tok)
    if getattr(c, "moe_intermediate_size", None):
        w.add_expert_feed_forward_length(c.moe_intermediate_size)
    if getattr(c, "shared_expert_intermediate_size", None):
        w.add_expert_shared_feed_forward_length(c.shared_expert_intermediate_size)
    if arch == "qwen3moe" and not c.norm_topk_prob:
        w.add_expert_weights_norm(False)
    if name in EXPERT_SCALE:
        w.add_expert_weights_scale(EXPERT_SCALE[name])


def model_of(c):
    c._attn_implementation = c._experts_implementation = "eager"
    return hf.AutoModelForCausalLM.from_config(c).float().eval()


def places(model, arch, c):
    """(name in GGUF, parameter or part of one, heads whose rows are interleaved or 0, what GGUF adds to the values)"""
    names = get_tensor_name_map(next(k for k, v in MODEL_ARCH_NAMES.items() if v == arch), c.num_hidden_layers)
    interleaved = arch in ("llama", "mistral3", "smollm3", "granite", "granitemoe")
    for key, x in model.state_dict(keep_vars=True).items():
        x = x.data
        if key == "lm_head.weight" and c.tie_word_embeddings:
            continue
        heads = 0
        if interleaved and ".q_proj." in key:
            heads = c.num_attention_heads
        if interleaved and ".k_proj." in key:
            heads = c.num_key_value_heads
        if ".experts." in key:
            layer = f"blk.{key.split('.')[2]}."
            if "gate_up" in key:
                half = x.shape[1] // 2
                yield layer + "ffn_gate_exps.weight", x[:, :half], 0, 0
                yield layer + "ffn_up_exps.weight", x[:, half:], 0, 0
            else:
                yield layer + "ffn_down_exps.weight", x, 0, 0
            continue
        name = names.get_name(key.replace("router.weight", "router.layer.weight"), try_suffixes=(".weight", ".bias"))
        assert name, key
        if "shexp" in name and "inp" in name:
            x = x[0]
        yield name, x, heads, 1 if arch.startswith("gemma") and "norm" in name else 0


def type_of(name, shape):
    if len(shape) == 1:
        return Q.F32
    if "ffn_gate_inp" in name:
        return Q.F32
    if "ffn_down" in name:
        return Q.Q8_0
    return Q.Q5_0 if "attn" in name else Q.Q4_0


def spread(name, arch, shape):
    """Mean and standard deviation."""
    if "norm" in name:
        return 1, 0.1
    if name.endswith("bias"):
        return 0, 0.3
    if "token_embd" in name:
        return 0, {"g": 0.3, "o": 0.5}.get(arch[0], 0.4)
    if "ffn_gate_inp" in name:
        return 0, 0.3
    sharp = arch != "smollm3" and ("attn_q" in name or "attn_k" in name)
    return 0, (1.8 if sharp else 1.3) / math.sqrt(shape[-1])


def make(name, path, specs=SPECS):
    arch, config = specs[name]
    c = config()
    rng = np.random.default_rng([7, sum(map(ord, name))])
    w = GGUFWriter(path, arch)
    describe(w, name, arch, c)
    describe_rope(w, arch, c)
    for tensor, x, _, _ in places(model_of(c), arch, c):
        mean, deviation = spread(tensor, arch, x.shape)
        value = (mean + deviation * rng.standard_normal(tuple(x.shape))).astype(np.float32)
        kind = type_of(tensor, x.shape)
        if kind == Q.F32:
            w.add_tensor(tensor, value)
        else:
            w.add_tensor(tensor, quantize(value, kind), raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def load(name, path, specs=SPECS):
    """The transformers model with the file's weights."""
    arch, config = specs[name]
    c = config()
    model = model_of(c)
    stored = {t.name: t for t in GGUFReader(path).tensors}
    for tensor, x, heads, shift in places(model, arch, c):
        t = stored.pop(tensor)
        value = dequantize(t.data, t.tensor_type).astype(np.float32).reshape(tuple(x.shape))
        if heads:  # pairs that stand side by side stand a half apart in transformers
            value = value.reshape(heads, -1, 2, *value.shape[1:]).swapaxes(1, 2).reshape(value.shape)
        if "ffn_down_exps" in tensor:
            value = value * np.float32(EXPERT_SCALE.get(name, 1))
        x.copy_(torch.from_numpy(np.ascontiguousarray(value - np.float32(shift))))
    assert all(t.startswith("rope_f") for t in stored), stored.keys()
    return model


def old_ids(name):
    with open(os.path.join(HERE, name + ".json")) as f:
        return json.load(f)["ids"]


def golden(name, path, specs=SPECS, tokens=TOKENS):
    """What NAME.json holds."""
    model_name = os.path.basename(path)
    rng = np.random.default_rng([8, sum(map(ord, name))])
    ids = old_ids(name) if name in FIRST else [int(x) for x in rng.integers(0, VOCAB, tokens)]
    with torch.no_grad():
        logits = load(SHORT.get(name, (name,))[0], path, specs)(torch.tensor([ids])).logits[0].double()
    p = torch.log_softmax(logits, -1)
    top, where = p.topk(10)
    nll = float(-p[:-1].gather(1, torch.tensor(ids)[1:, None]).mean())
    return {"model": model_name, "reference": "transformers fp32", "ids": ids, "mean_nll": round(nll, 6),
            "logits_last": [round(float(x), 5) for x in logits[-1]],
            "top10": [[[int(i), round(float(x), 5)] for i, x in zip(*row)] for row in zip(where, top)]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--golden", action="store_true")
    parser.add_argument("out")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    for name in args.names or [*SPECS, *SHORT]:
        file, tokens = SHORT.get(name, (name, TOKENS))
        path = os.path.join(HERE if args.golden or file in FIRST else args.out, file + ".gguf")
        if not args.golden and name == file and name not in FIRST:
            make(name, path)
        result = golden(name, path, tokens=tokens)
        with open(os.path.join(args.out, name + ".json"), "w") as f:
            json.dump(result, f, separators=(",", ":"))
        sharp = sum(row[0][1] - row[1][1] > 0.5 for row in result["top10"])
        last = np.array(result["logits_last"])
        print(f"{name:20} {os.path.getsize(path):8} bytes, logits {last.std():.2f} +- around {last.mean():.2f}, {sharp} of {tokens} first by 0.5")


if __name__ == "__main__":
    main()
