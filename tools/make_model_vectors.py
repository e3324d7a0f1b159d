#!/usr/bin/env python3
"""Makes the models and reference logits that tests/model compares the decoder with.

For every architecture and RoPE variant a small random-weight model is written as a Hugging Face folder
(tests/vectors/models/NAME), loaded again by transformers in float32 with eager attention, and run:

  reference.safetensors    tokens (prompt + 32 greedy steps), prompt_tokens, logits after every token
                           (prefill in one pass, then step by step through transformers' own KV cache),
                           bf16_tolerance (see below)
  composition.safetensors  for some models: logits of a query over a system prompt and two documents that do
                           not see each other (independent) or whose first link_tokens tokens are
                           computed again in place (link), from one run with a custom 4D mask

tests/vectors/rope.json holds inverse frequencies and attention factors of RoPE parameters, real models' among
them. All expected values come from transformers; nothing here is computed by cento.

bf16_tolerance: twice the largest deviation of the logits that transformers shows when weights, the inputs
of all products, and K and V are rounded to bfloat16 (sums stay in float32): what a bf16 engine does at
least. Where the reference's margin between first and second token exceeds it, the first must be the same.

Needs torch and transformers. Usage: tools/make_model_vectors.py [--out tests/vectors] [--only NAME]
"""
import argparse
import importlib
import json
import pathlib
import shutil

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

DECODE_STEPS = 32
LINK_TOKENS = 4
PIECES = {"system": 7, "first": 19, "second": 23, "query": 9}

COMMON = dict(
    vocab_size=100, hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=6,
    num_key_value_heads=2, max_position_embeddings=4096, rms_norm_eps=1e-6, pad_token_id=None,
    bos_token_id=1, eos_token_id=[2, 3],
)
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=1024)
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=1024)

# name: class prefix, configuration beside COMMON, dtype of the file, prompt length, and options:
# old (rope_scaling instead of rope_parameters in config.json), shard, compose
MODELS = {
    "qwen3": ("Qwen3", dict(num_attention_heads=4, head_dim=16, tie_word_embeddings=True,
                            rope_parameters=dict(rope_type="default", rope_theta=1000000.0)),
              "bfloat16", 64, {"compose"}),
    "qwen3-bias-untied": ("Qwen3", dict(num_attention_heads=4, head_dim=10, attention_bias=True),
                          "float16", 50, {"old"}),
    "qwen2": ("Qwen2", dict(tie_word_embeddings=True), "bfloat16", 61, {"old"}),
    "qwen2-window": ("Qwen2", dict(num_hidden_layers=3, intermediate_size=40, use_sliding_window=True,
                                   sliding_window=12, max_window_layers=1), "bfloat16", 80, set()),
    "qwen2-yarn": ("Qwen2", dict(num_attention_heads=3, num_key_value_heads=1, tie_word_embeddings=True,
                                 rope_parameters=dict(YARN, mscale=1.2, mscale_all_dim=0.7, beta_fast=16.0,
                                                      beta_slow=2.0, truncate=False)),
                   "bfloat16", 57, set()),
    "llama2-mha": ("Llama", dict(num_attention_heads=4, num_key_value_heads=4), "bfloat16", 64, {"old"}),
    "llama3-gqa": ("Llama", dict(tie_word_embeddings=True, rope_parameters=dict(LLAMA3)), "bfloat16", 77,
                   {"old", "compose"}),
    "llama-linear": ("Llama", dict(rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=4.0)),
                     "bfloat16", 48, {"old"}),
    "llama-yarn": ("Llama", dict(num_attention_heads=3, num_key_value_heads=3, rope_parameters=dict(YARN)),
                   "float16", 64, {"compose"}),
    "llama-bias": ("Llama", dict(attention_bias=True, mlp_bias=True), "bfloat16", 53, set()),
    "llama-mqa": ("Llama", dict(num_key_value_heads=1, head_dim=12, num_attention_heads=4), "bfloat16", 49,
                  set()),
    "llama-f32-sharded": ("Llama", dict(rope_parameters=dict(LLAMA3), tie_word_embeddings=True), "float32",
                          64, {"shard"}),
    "mistral-window": ("Mistral", dict(sliding_window=20, head_dim=16, num_attention_heads=4), "bfloat16", 70,
                       {"old"}),
    "mistral": ("Mistral", dict(sliding_window=None), "float16", 48, set()),
}


def randomize(model, generator):
    """Weights that give attention with clear peaks and logits of a few units; norms and biases not trivial."""
    for name, tensor in model.named_parameters():
        noise = torch.randn(tensor.shape, generator=generator)
        if "norm" in name:
            tensor.data = 1 + 0.25 * noise
        elif name.endswith("bias"):
            tensor.data = 0.4 * noise
        elif "embed_tokens" in name or "lm_head" in name:
            tensor.data = 0.8 * noise
        else:
            gain = 1.3 if "q_proj" in name or "k_proj" in name else 1.0
            tensor.data = gain * noise / tensor.shape[1] ** 0.5


def write_old_config(path):
    """config.json as transformers 4 wrote it: rope_theta and rope_scaling, torch_dtype."""
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    if rope["rope_type"] == "linear":
        rope["type"] = rope.pop("rope_type")
    config["rope_scaling"] = None if rope.get("rope_type") == "default" else rope
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.51.0"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def make_folder(folder, prefix, settings, dtype, options, seed):
    config = getattr(transformers, prefix + "Config")(**{**COMMON, **settings})
    model = getattr(transformers, prefix + "ForCausalLM")(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        randomize(model, generator)
    model = model.to(getattr(torch, dtype))
    model.save_pretrained(folder, max_shard_size="60KB" if "shard" in options else "5GB")
    if "old" in options:
        write_old_config(folder / "config.json")
        (folder / "generation_config.json").unlink()
    return generator


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def run_with_cache(model, tokens, prompt_tokens):
    """Logits after each token: the prompt in one pass, each further token alone."""
    output = model(input_ids=tokens[None, :prompt_tokens], use_cache=True)
    logits, cache = [output.logits[0]], output.past_key_values
    for i in range(prompt_tokens, len(tokens)):
        output = model(input_ids=tokens[None, i:i + 1], past_key_values=cache, use_cache=True)
        logits.append(output.logits[0])
    return torch.cat(logits)


def greedy(model, prompt):
    tokens = prompt.clone()
    for _ in range(DECODE_STEPS):
        tokens = torch.cat([tokens, model(input_ids=tokens[None]).logits[0, -1].argmax()[None]])
    return tokens


def bf16(tensor):
    return tensor.to(torch.bfloat16).to(torch.float32)


def run_rounded(folder, prefix, tokens, prompt_tokens):
    """run_with_cache with bf16 weights, inputs of products, K and V."""
    model = load(folder)
    for module in model.modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Embedding)):
            module.weight.data = bf16(module.weight.data)
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(lambda _, inputs: (bf16(inputs[0]), *inputs[1:]))
    code = importlib.import_module(f"transformers.models.{prefix.lower()}.modeling_{prefix.lower()}")
    eager = code.eager_attention_forward

    def rounded(module, query, key, value, *rest, **named):
        return eager(module, query, bf16(key), bf16(value), *rest, **named)

    code.eager_attention_forward = rounded
    try:
        return run_with_cache(model, tokens, prompt_tokens)
    finally:
        code.eager_attention_forward = eager


def make_reference(folder, prefix, prompt_tokens, generator):
    model = load(folder)
    prompt = torch.randint(0, model.config.vocab_size, (prompt_tokens,), generator=generator)
    tokens = greedy(model, prompt)
    logits = run_with_cache(model, tokens, prompt_tokens)
    deviation = (run_rounded(folder, prefix, tokens, prompt_tokens) - logits).abs().max().item()
    top = logits.topk(2).values
    clear = (top[:, 0] - top[:, 1] > 2 * deviation).float().mean().item()
    save_file({"tokens": tokens.to(torch.int32), "prompt_tokens": torch.tensor([prompt_tokens], dtype=torch.int32),
               "logits": logits.contiguous(), "bf16_tolerance": torch.tensor([2 * deviation])},
              folder / "reference.safetensors")
    return f"logits std {logits.std():.2f}, bf16 tolerance {2 * deviation:.3f}, {clear:.0%} of rows clear of it"


def segments_mask(rows):
    """rows: one dict per token: segment, index in it, sees (segments seen wholly). Causal inside a segment."""
    count = len(rows)
    allowed = torch.zeros(count, count, dtype=torch.bool)
    for i, row in enumerate(rows):
        for j, other in enumerate(rows):
            inside = row["segment"] == other["segment"] and other["index"] <= row["index"]
            # tail tokens of a chunk alone: they also see its head as it was computed alone
            allowed[i, j] = inside or other["segment"] in row["sees"]
    return torch.zeros(count, count).masked_fill(~allowed, torch.finfo(torch.float32).min)[None, None]


def make_composition(folder, generator):
    """One forward over [system, first, second, query] with a block mask gives `independent`. For `link` the chunks
    stand there whole (computed alone, at their place) and their first tokens stand there a second time,
    at the same positions, seeing all before; the query and later heads see those and the tails."""
    model = load(folder)
    lengths = list(PIECES.values())
    tokens = torch.randint(0, model.config.vocab_size, (sum(lengths),), generator=generator)
    begin = [sum(lengths[:i]) for i in range(len(lengths))]

    def piece(name, place, first=0, last=None, sees=()):
        last = lengths[place] if last is None else last
        return [{"segment": name, "index": i, "sees": sees, "position": begin[place] + i}
                for i in range(first, last)]

    def run(rows):
        positions = torch.tensor([row["position"] for row in rows])
        output = model(input_ids=tokens[positions][None], position_ids=positions[None],
                       attention_mask=segments_mask(rows), use_cache=False)
        return output.logits[0, -lengths[3]:].contiguous()

    independent = run(piece("system", 0) + piece("first", 1) + piece("second", 2)
                      + piece("query", 3, sees=("system", "first", "second")))
    k = LINK_TOKENS
    alone = []
    for name, place in (("first", 1), ("second", 2)):
        # head and tail of the chunk as computed alone are two segments, so that they can be seen apart
        alone += piece(name + " head alone", place, 0, k) + piece(name + " tail", place, k, sees=(name + " head alone",))
    before_second = ("system", "first head", "first tail")
    before_query = before_second + ("second head", "second tail")
    link = run(piece("system", 0) + alone + piece("first head", 1, 0, k, sees=("system",))
               + piece("second head", 2, 0, k, sees=before_second) + piece("query", 3, sees=before_query))
    exact = run(piece("all", 0) + [dict(row, segment="all", index=row["position"]) for row in
                                   piece("all", 1) + piece("all", 2) + piece("all", 3)])
    plain = model(input_ids=tokens[None]).logits[0, -lengths[3]:]
    assert (exact - plain).abs().max() < 1e-4, "a causal mask by hand differs from transformers' own"
    save_file({"tokens": tokens.to(torch.int32), "lengths": torch.tensor(lengths, dtype=torch.int32),
               "link_tokens": torch.tensor([k], dtype=torch.int32), "independent": independent, "link": link,
               "exact": exact}, folder / "composition.safetensors")
    apart = [(a - b).abs().max().item() for a, b in ((independent, exact), (link, exact), (link, independent))]
    return "apart: independent/exact {:.2f}, link/exact {:.2f}, link/independent {:.2f}".format(*apart)


def rope_cases():
    """(config.json text, inv_freq, attention factor) as transformers computes them."""
    base = dict(architectures=["LlamaForCausalLM"], vocab_size=100, hidden_size=2048, intermediate_size=64,
                num_hidden_layers=1, num_attention_heads=32, num_key_value_heads=8,
                max_position_embeddings=131072)
    variants = [
        dict(rope_theta=10000.0),
        dict(rope_theta=1000000.0, head_dim=128),
        dict(rope_parameters=dict(rope_type="default", rope_theta=500000.0)),
        dict(rope_theta=10000.0, rope_scaling=dict(type="linear", factor=2.5)),
        dict(rope_parameters=dict(rope_type="linear", rope_theta=100000.0, factor=8)),
        dict(rope_theta=500000.0, rope_scaling=dict(rope_type="llama3", factor=32.0, low_freq_factor=1.0,
                                                    high_freq_factor=4.0, original_max_position_embeddings=8192)),
        dict(head_dim=128, rope_theta=500000.0,
             rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                               original_max_position_embeddings=8192)),
        dict(rope_parameters=dict(rope_type="llama3", rope_theta=20000.0, factor=3.0, low_freq_factor=0.5,
                                  high_freq_factor=7.0, original_max_position_embeddings=512)),
        # Qwen2.5 and Qwen3 with the YaRN parameters of their model cards
        dict(head_dim=128, rope_theta=1000000.0,
             rope_scaling=dict(type="yarn", factor=4.0, original_max_position_embeddings=32768)),
        dict(rope_scaling=dict(rope_type="yarn", factor=16.0, original_max_position_embeddings=4096)),
        dict(rope_scaling=dict(rope_type="yarn", factor=16.0, original_max_position_embeddings=4096,
                               attention_factor=0.9)),
        dict(rope_scaling=dict(rope_type="yarn", factor=40.0, original_max_position_embeddings=4096, mscale=1.0,
                               mscale_all_dim=1.0)),
        dict(rope_scaling=dict(rope_type="yarn", factor=40.0, original_max_position_embeddings=4096, mscale=0.707,
                               mscale_all_dim=0.3, beta_fast=48.0, beta_slow=2.0)),
        dict(rope_parameters=dict(rope_type="yarn", rope_theta=150000.0, factor=32.0, truncate=False,
                                  original_max_position_embeddings=4096)),
        dict(rope_scaling=dict(rope_type="yarn", factor=None, original_max_position_embeddings=8192)),
        dict(rope_scaling=dict(rope_type="yarn", factor=1.0, original_max_position_embeddings=131072)),
        dict(rope_theta=20.0, head_dim=16,
             rope_scaling=dict(rope_type="yarn", factor=2.0, original_max_position_embeddings=16)),
        dict(rope_theta=10000.0, rope_scaling=dict(rope_type="dynamic", factor=2.0)),
    ]
    for variant in variants:
        config_json = {**base, **variant}
        config = transformers.LlamaConfig(**json.loads(json.dumps(config_json)))
        rotary = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(config)
        yield {"config": config_json, "inv_freq": rotary.inv_freq.tolist(),
               "attention_factor": float(rotary.attention_scaling)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("tests/vectors"))
    parser.add_argument("--only", help="make only this model")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with torch.no_grad():
        for seed, (name, (prefix, settings, dtype, prompt_tokens, options)) in enumerate(MODELS.items()):
            if arguments.only not in (None, name):
                continue
            folder = arguments.out / "models" / name
            shutil.rmtree(folder, ignore_errors=True)
            generator = make_folder(folder, prefix, settings, dtype, options, 1000 + seed)
            print(f"{name}: {make_reference(folder, prefix, prompt_tokens, generator)}")
            if "compose" in options:
                print(f"{name}: {make_composition(folder, generator)}")
        if arguments.only is None:
            cases = ",\n".join(json.dumps(case) for case in rope_cases())
            (arguments.out / "rope.json").write_text(f"[\n{cases}\n]\n")


if __name__ == "__main__":
    main()
