"""The tokenizer: a byte-level BPE with Qwen's split pattern, trained on generated text."""

import json
import random

from . import encyclopedia
from .names import Names
from .sequences import make_system

VOCABULARY = 3072
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}")


def corpus(seed, worlds):
    rng = random.Random(f"tokenizer:{seed}")
    for _ in range(worlds):
        world = encyclopedia.make_world(rng, Names(rng), 4)
        yield make_system(rng) or ""
        for entity in world.entities:
            yield entity.document
        for _ in range(4):
            for turn in encyclopedia.conversation(world.entities, rng, world, 2, small_talk_rate=0.03):
                yield turn.query
                yield turn.answer


def train(seed, worlds=6000):
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY - len(SPECIAL), show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(corpus(seed, worlds), trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    assert tokenizer.get_vocab_size() == VOCABULARY
    return tokenizer


def save(tokenizer, folder):
    tokenizer.save(str(folder / "tokenizer.json"))
    added = {str(tokenizer.token_to_id(text)): {"content": text, "lstrip": False, "normalized": False, "rstrip": False,
                                                "single_word": False, "special": True} for text in SPECIAL}
    config = {"add_bos_token": False, "add_prefix_space": False, "added_tokens_decoder": added, "bos_token": None,
              "chat_template": CHAT_TEMPLATE, "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>",
              "model_max_length": 4096, "pad_token": "<|endoftext|>", "tokenizer_class": "PreTrainedTokenizerFast",
              "unk_token": None}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
