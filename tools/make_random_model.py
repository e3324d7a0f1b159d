#!/usr/bin/env python3
"""Writes a Hugging Face folder with random weights in a published geometry, for machines without model files.

    tools/make_random_model.py llama-3.1-8b /tmp/llama-3.1-8b
    tools/make_random_model.py tiny-qwen3 /tmp/tiny --seed 3
    tools/make_random_model.py --list

bf16 safetensors (in shards of at most 4 GB), config.json, generation_config.json, and a small real tokenizer
with its chat template: that of models/cento-tiny, its vocabulary filled up to the geometry's with words that
no merge makes, so that whatever is sampled has a text. Answers are nonsense; sizes and times are those of the
real model. Needs only Python's standard library. 16 GB take as long as the disk does.

Weights are normal with the variance 1 / inputs, norms near one. They are cut from a block of random bytes,
through a table of 256 quantiles, at another place for each tensor: a bench wants plausible numbers, not
independent ones.
"""
import argparse
import json
import math
import pathlib
import random
import shutil
import statistics
import struct
import sys

TOKENIZER = pathlib.Path(__file__).resolve().parent.parent / "models" / "cento-tiny"
SHARD_BYTES = 4 << 30
BLOCK_VALUES = (8 << 20) + 9  # no multiple of a row's length, so that rows differ
SYLLABLES = ["ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu", "na", "pe", "ri", "so", "tu", "va"]

LLAMA3_ROPE = {"high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
               "rope_type": "llama3"}
QWEN3 = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 128, "rms_norm_eps": 1e-06,
         "rope_theta": 1000000, "rope_scaling": None, "max_position_embeddings": 40960, "vocab_size": 151936,
         "attention_bias": False, "sliding_window": None, "use_sliding_window": False, "max_window_layers": 28}
LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "rms_norm_eps": 1e-05,
         "rope_theta": 500000.0, "max_position_embeddings": 131072, "vocab_size": 128256, "attention_bias": False,
         "mlp_bias": False, "pretraining_tp": 1}
GEOMETRIES = {
    "qwen3-0.6b": {**QWEN3, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
                   "num_attention_heads": 16, "num_key_value_heads": 8, "tie_word_embeddings": True},
    "qwen3-8b": {**QWEN3, "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36,
                 "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": False,
                 "max_window_layers": 36},
    "llama-3.1-8b": {**LLAMA, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
                     "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
                     "tie_word_embeddings": False, "rope_scaling": {**LLAMA3_ROPE, "factor": 8.0}},
    "llama-3.2-1b": {**LLAMA, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
                     "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
                     "tie_word_embeddings": True, "rope_scaling": {**LLAMA3_ROPE, "factor": 32.0}},
    "tiny-qwen3": {**QWEN3, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3,
                   "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 4096,
                   "max_position_embeddings": 4096, "max_window_layers": 3, "tie_word_embeddings": True},
    "tiny-llama": {**LLAMA, "hidden_size": 96, "intermediate_size": 224, "num_hidden_layers": 2,
                   "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 3200,
                   "max_position_embeddings": 16384, "tie_word_embeddings": False,
                   "rope_scaling": {**LLAMA3_ROPE, "factor": 8.0}},
}


def tensors(config):
    """(name, shape, standard deviation; None: a norm), in the order of the file."""
    hidden, inner, dim = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * dim, config["num_key_value_heads"] * dim
    vocabulary = config["vocab_size"]

    def matrix(name, rows, columns, deviation=None):
        return name + ".weight", (rows, columns), deviation or columns**-0.5

    yield matrix("model.embed_tokens", vocabulary, hidden, 0.02 if config["tie_word_embeddings"] else 1.0)
    for layer in range(config["num_hidden_layers"]):
        place = f"model.layers.{layer}."
        yield place + "input_layernorm.weight", (hidden,), None
        yield matrix(place + "self_attn.q_proj", queries, hidden)
        yield matrix(place + "self_attn.k_proj", keys, hidden)
        yield matrix(place + "self_attn.v_proj", keys, hidden)
        yield matrix(place + "self_attn.o_proj", hidden, queries)
        if config["model_type"] == "qwen3":
            yield place + "self_attn.q_norm.weight", (dim,), None
            yield place + "self_attn.k_norm.weight", (dim,), None
        yield place + "post_attention_layernorm.weight", (hidden,), None
        yield matrix(place + "mlp.gate_proj", inner, hidden)
        yield matrix(place + "mlp.up_proj", inner, hidden)
        yield matrix(place + "mlp.down_proj", hidden, inner)
    yield "model.norm.weight", (hidden,), None
    if not config["tie_word_embeddings"]:
        yield matrix("lm_head", vocabulary, hidden)


def tensor_bytes(shape):
    return 2 * math.prod(shape)


def bf16(value):
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


class RandomValues:
    """bf16 values from one block of random bytes."""

    def __init__(self, seed):
        self.source = random.Random(seed)
        self.block = self.source.randbytes(BLOCK_VALUES)
        normal = statistics.NormalDist()
        quantiles = [normal.inv_cdf((i + 0.5) / 256) for i in range(256)]
        scale = math.sqrt(256 / sum(q * q for q in quantiles))
        self.quantiles = [q * scale for q in quantiles]
        self.made = {}

    def values(self, deviation):
        """The block as bf16 with this standard deviation; norms (None) are near one."""
        if deviation not in self.made:
            wanted = [bf16(1 + 0.05 * q if deviation is None else deviation * q) for q in self.quantiles]
            made = bytearray(2 * BLOCK_VALUES)
            made[0::2] = self.block.translate(bytes(word & 255 for word in wanted))
            made[1::2] = self.block.translate(bytes(word >> 8 for word in wanted))
            self.made[deviation] = memoryview(bytes(made))
        return self.made[deviation]

    def write(self, file, count, deviation):
        values = self.values(deviation)
        start = self.source.randrange(BLOCK_VALUES)
        while count > 0:
            taken = min(count, BLOCK_VALUES - start)
            file.write(values[2 * start : 2 * (start + taken)])
            count -= taken
            start = 0


def make_shards(config, shard_bytes):
    shards, size = [[]], 0
    for tensor in tensors(config):
        if size + tensor_bytes(tensor[1]) > shard_bytes and shards[-1]:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += tensor_bytes(tensor[1])
    return shards


def write_shard(path, shard, values):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, _ in shard:
        end = offset + tensor_bytes(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb", buffering=0) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, shape, deviation in shard:
            values.write(file, math.prod(shape), deviation)


def write_weights(folder, config, seed, shard_bytes):
    shards = make_shards(config, shard_bytes)
    values = RandomValues(seed)
    index, total = {}, 0
    for number, shard in enumerate(shards, 1):
        name = "model.safetensors"
        if len(shards) > 1:
            name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_shard(folder / name, shard, values)
        for tensor, shape, _ in shard:
            index[tensor] = name
            total += tensor_bytes(shape)
    if len(shards) > 1:
        write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": index})
    return total


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def filler(number):
    """A word that the tokenizer cannot make: no merge leads to it."""
    word = ""
    while True:
        word += SYLLABLES[number % 16]
        number //= 16
        if number == 0:
            return "\u0120" + word.upper()


def write_tokenizer(folder, vocab_size):
    """The special tokens become the last ids, where readers that count added tokens from there expect them."""
    source = json.loads((TOKENIZER / "tokenizer.json").read_text(encoding="utf-8"))
    settings = json.loads((TOKENIZER / "tokenizer_config.json").read_text(encoding="utf-8"))
    vocabulary, special = source["model"]["vocab"], source["added_tokens"]
    first_special, number = vocab_size - len(special), 0
    if len(vocabulary) > first_special:
        raise ValueError(f"a vocabulary of {vocab_size}: the tokenizer alone has {len(vocabulary) + len(special)}")
    for token in range(len(vocabulary), first_special):
        while filler(number) in vocabulary:
            number += 1
        vocabulary[filler(number)] = token
    about = {entry["content"]: entry for entry in settings["added_tokens_decoder"].values()}
    for place, token in enumerate(special):
        token["id"] = first_special + place
    settings["added_tokens_decoder"] = {str(token["id"]): about[token["content"]] for token in special}
    (folder / "tokenizer.json").write_text(json.dumps(source, ensure_ascii=False), encoding="utf-8")
    write_json(folder / "tokenizer_config.json", settings)
    shutil.copyfile(TOKENIZER / "chat_template.jinja", folder / "chat_template.jinja")
    ids = {token["content"]: token["id"] for token in special}
    return ids[settings["eos_token"]], ids[settings["pad_token"]]


def make(geometry, folder, seed, shard_bytes):
    config = dict(GEOMETRIES[geometry])
    folder.mkdir(parents=True)
    eos, pad = write_tokenizer(folder, config["vocab_size"])
    config |= {"hidden_act": "silu", "bos_token_id": None, "eos_token_id": eos, "pad_token_id": pad,
               "torch_dtype": "bfloat16", "initializer_range": 0.02, "use_cache": True, "attention_dropout": 0.0}
    total = write_weights(folder, config, seed, shard_bytes)
    write_json(folder / "generation_config.json",
               {"do_sample": False, "eos_token_id": [eos, pad], "pad_token_id": pad})
    write_json(folder / "config.json", config)  # last: a folder cut short cannot be opened
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("geometry", nargs="?", metavar="GEOMETRY", help="one of those that --list shows")
    parser.add_argument("folder", nargs="?", metavar="FOLDER", type=pathlib.Path, help="to be made; must not exist")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same weights (default: 0)")
    parser.add_argument("--shard-bytes", type=int, default=SHARD_BYTES, help="of a file at most (default: 4 GB)")
    parser.add_argument("--list", action="store_true", help="the geometries and the size of their weights")
    arguments = parser.parse_args()
    if arguments.list:
        for name, config in GEOMETRIES.items():
            count = sum(math.prod(shape) for _, shape, _ in tensors(config))
            print(f"{name:14} {count / 1e6:9.1f} M parameters {2 * count / 1e9:8.3f} GB")
        return 0
    if arguments.geometry not in GEOMETRIES:
        parser.error(f"geometry '{arguments.geometry}': expected one of {', '.join(GEOMETRIES)}")
    if arguments.folder is None:
        parser.error("expected the folder that is to be made")
    if arguments.folder.exists():
        parser.error(f"{arguments.folder}: exists already")
    if arguments.shard_bytes < 1:
        parser.error(f"--shard-bytes {arguments.shard_bytes}: expected at least 1")
    try:
        total = make(arguments.geometry, arguments.folder, arguments.seed, arguments.shard_bytes)
    except (OSError, ValueError) as problem:
        print(f"make_random_model.py: {problem}", file=sys.stderr)
        return 1
    print(f"{arguments.folder}: {arguments.geometry}, {total / 1e9:.3f} GB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
