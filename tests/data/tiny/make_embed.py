"""Makes tiny-bert and tiny-qwen3-embed, models of random weights whose use is embeddings, and what they must give.

    make_embed.py            # into the folder of this script

Each is built twice from the same numbers: as a GGUF file of quantised weights, and as the transformers model whose weights are
those, dequantised. NAME.json holds texts, their ids (of tiny-bert, by the tokenizers package), and the last hidden states in
fp32: their mean, the first and the last. Needs torch, transformers, tokenizers, gguf and numpy.
"""
import json
import os

import numpy as np
import torch
import transformers as hf
from gguf import GGMLQuantizationType as Q, GGUFWriter, PoolingType, TokenType
from gguf.quants import dequantize, quantize
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
VOCAB, WIDTH, FFN = 512, 64, 128
TEXTS = ["Everyone is permitted to copy and distribute verbatim copies", "", "Café, naïve; ÅNGSTRÖM — 東京 is nowhere!",
         "a program\tis\u0007 free\u200d software\r\n(as in SPEECH)", "\u0130stanbul ﬁne 한국어 x\u0301y " + "z" * 101 + " " + "e" * 100,
         "The precise terms and conditions for copying, distribution and modification follow. " * 2]
BERT = hf.BertConfig(vocab_size=VOCAB, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, intermediate_size=FFN,
                     max_position_embeddings=128, type_vocab_size=2, hidden_act="gelu", layer_norm_eps=1e-12)
QWEN3 = hf.Qwen3Config(vocab_size=VOCAB, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
                       intermediate_size=FFN, max_position_embeddings=1024, rms_norm_eps=1e-6, rope_theta=1e6, tie_word_embeddings=True)


def word_piece():
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer, t.pre_tokenizer = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    with open("/usr/share/common-licenses/GPL-3", encoding="utf-8") as f:
        t.train_from_iterator([f.read(), "東京 한국어 — ş"], trainers.WordPieceTrainer(vocab_size=VOCAB, special_tokens=special, show_progress=False))
    tokens = sorted(t.get_vocab(), key=t.get_vocab().get)
    assert len(tokens) == VOCAB
    return t, tokens, len(special)


class Maker:
    def __init__(self, name, arch, model, seed):
        self.name, self.model, self.rng = name, model.float().eval(), np.random.default_rng(seed)
        self.state, self.seen = model.state_dict(), set()
        c = model.config
        self.w = w = GGUFWriter(os.path.join(HERE, name + ".gguf"), arch)
        w.add_name(name), w.add_quantization_version(2), w.add_context_length(c.max_position_embeddings), w.add_embedding_length(WIDTH)
        w.add_block_count(c.num_hidden_layers), w.add_feed_forward_length(FFN), w.add_head_count(c.num_attention_heads)

    def put(self, gguf, hf_name, kind=Q.Q8_0, deviation=0.2, mean=0.0):
        x = (mean + deviation * self.rng.standard_normal(tuple(self.state[hf_name].shape))).astype(np.float32)
        if kind != Q.F32:
            data = quantize(x, kind)
            x = dequantize(data, kind).reshape(x.shape)
            self.w.add_tensor(gguf, data, raw_dtype=kind)
        else:
            self.w.add_tensor(gguf, x)
        self.state[hf_name].copy_(torch.from_numpy(np.ascontiguousarray(x)))
        self.seen.add(hf_name)

    def both(self, gguf, hf_name, **more):
        self.put(gguf + ".weight", hf_name + ".weight", **more)
        self.put(gguf + ".bias", hf_name + ".bias", Q.F32)

    def norm(self, gguf, hf_name, bias=True):
        self.put(gguf + ".weight", hf_name + ".weight", Q.F32, 0.1, 1.0)
        if bias:
            self.put(gguf + ".bias", hf_name + ".bias", Q.F32)

    def finish(self, cases):
        assert not set(self.state) - self.seen - {"embeddings.position_ids"}, set(self.state) - self.seen
        self.model.load_state_dict(self.state)
        self.w.write_header_to_file(), self.w.write_kv_data_to_file(), self.w.write_tensors_to_file(), self.w.close()
        out = []
        for case in cases:
            with torch.no_grad():
                states = self.model(input_ids=torch.tensor([case["ids"]])).last_hidden_state[0].double()
            pools = {"mean": states.mean(0), "cls": states[0], "last": states[-1]}
            out.append(case | {k: [round(float(x), 7) for x in v] for k, v in pools.items()})
        with open(os.path.join(HERE, self.name + ".json"), "w", encoding="utf-8") as f:
            json.dump({"model": self.name + ".gguf", "reference": "transformers fp32", "texts": out}, f)


def bert():
    t, tokens, special = word_piece()
    m = Maker("tiny-bert", "bert", hf.BertModel(BERT, add_pooling_layer=False), 1)
    w = m.w
    w.add_layer_norm_eps(BERT.layer_norm_eps), w.add_causal_attention(False), w.add_pooling_type(PoolingType.MEAN)
    w.add_tokenizer_model("bert"), w.add_token_type_count(2)
    w.add_token_list([s if i < special else s[2:] if s.startswith("##") else "▁" + s for i, s in enumerate(tokens)])
    w.add_token_types([TokenType.CONTROL if i < special else TokenType.NORMAL for i in range(VOCAB)])
    w.add_pad_token_id(0), w.add_unk_token_id(1), w.add_bos_token_id(2), w.add_sep_token_id(3), w.add_mask_token_id(4)
    m.put("token_embd.weight", "embeddings.word_embeddings.weight", deviation=1.0)
    m.put("token_types.weight", "embeddings.token_type_embeddings.weight", Q.F32)
    m.put("position_embd.weight", "embeddings.position_embeddings.weight", Q.F16, 0.5)
    m.norm("token_embd_norm", "embeddings.LayerNorm")
    for i in range(BERT.num_hidden_layers):
        g, h = f"blk.{i}.", f"encoder.layer.{i}."
        for part, name in ("q", "query"), ("k", "key"), ("v", "value"):
            m.both(g + "attn_" + part, h + "attention.self." + name)
        m.both(g + "attn_output", h + "attention.output.dense")
        m.norm(g + "attn_output_norm", h + "attention.output.LayerNorm")
        m.both(g + "ffn_up", h + "intermediate.dense")
        m.both(g + "ffn_down", h + "output.dense")
        m.norm(g + "layer_output_norm", h + "output.LayerNorm")
    m.finish([{"text": text, "ids": [2, *t.encode(text, add_special_tokens=False).ids, 3]} for text in TEXTS])


def qwen3():
    m = Maker("tiny-qwen3-embed", "qwen3", hf.Qwen3Model(QWEN3), 2)
    w = m.w
    w.add_head_count_kv(2), w.add_key_length(32), w.add_value_length(32), w.add_layer_norm_rms_eps(QWEN3.rms_norm_eps)
    w.add_rope_freq_base(1e6), w.add_pooling_type(PoolingType.LAST), w.add_vocab_size(VOCAB), w.add_tokenizer_model("no_vocab")
    m.put("token_embd.weight", "embed_tokens.weight", deviation=1.0)
    m.norm("output_norm", "norm", False)
    for i in range(QWEN3.num_hidden_layers):
        g, h = f"blk.{i}.", f"layers.{i}."
        m.norm(g + "attn_norm", h + "input_layernorm", False)
        m.norm(g + "ffn_norm", h + "post_attention_layernorm", False)
        for part in "qk":
            m.norm(g + f"attn_{part}_norm", h + f"self_attn.{part}_norm", False)
        for part in "qkv":
            m.put(g + f"attn_{part}.weight", h + f"self_attn.{part}_proj.weight")
        m.put(g + "attn_output.weight", h + "self_attn.o_proj.weight")
        for part in "gate", "up", "down":
            m.put(g + f"ffn_{part}.weight", h + f"mlp.{part}_proj.weight")
    m.finish([{"ids": [int(x) for x in m.rng.integers(0, VOCAB, n)]} for n in (1, 40, 17, 600, 3)])


torch.manual_seed(0)
bert()
qwen3()
