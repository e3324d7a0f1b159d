#!/usr/bin/env python3
"""Makes the tokenizer vectors in tests/vectors/tokenizer with Hugging Face `tokenizers`.

Trains a small byte-pair tokenizer of each kind on text that is generated here, and writes

  strings.txt          one test string a line, as base64 of its bytes (which need not be UTF-8)
  NAME/tokenizer.json  the tokenizer
  NAME/expected.txt    for each string (for some kinds: each of the first ones) a line of tab-separated columns:
      1  ids with special tokens added and parsed
      2  those ids decoded without special tokens, base64; "=" if that is the string itself, "-" if it is not
         and not told (told for each fourth string, and for all where the decoder gives back the text)
      3  ids with special tokens neither added nor parsed; "=" if column 1 without what was added
      4  for each eighth string the ids of column 1 decoded with special tokens, base64; else empty

Ids are two characters each of the base64 alphabet, high six bits first. Strings that are not UTF-8 are
compared as bytes.decode(errors="replace") reads them. Everything is seeded: the same version of `tokenizers`
gives the same files.

    python3 tools/make_tokenizer_vectors.py [--out tests/vectors/tokenizer] [--extra NAME=FOLDER]
"""
import argparse
import base64
import json
import pathlib
import random
import shutil

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers import processors, trainers

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
METASPACE = "\u2581"

GPT2_LIKE = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
GPT4O = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK_LLM = [
    r"[\r\n]",
    r"\s?["
    r"A-Za-z\x{b5}\x{c0}-\x{d6}\x{d8}-\x{f6}\x{f8}-\x{1ba}\x{1bc}-\x{1bf}\x{1c4}-\x{293}\x{295}-\x{2af}"
    r"\x{370}-\x{373}\x{376}\x{377}\x{37b}-\x{37d}\x{37f}\x{386}\x{388}-\x{38a}\x{38c}\x{38e}-\x{3a1}"
    r"\x{3a3}-\x{3f5}\x{3f7}-\x{481}\x{48a}-\x{52f}\x{531}-\x{556}\x{10a0}-\x{10c5}\x{13a0}-\x{13f5}"
    r"\x{13f8}-\x{13fd}\x{1c90}-\x{1cba}\x{1cbd}-\x{1cbf}\x{1d00}-\x{1d2b}\x{1d6b}-\x{1d77}"
    r"\x{1d79}-\x{1d9a}\x{1e00}-\x{1f15}\x{1f18}-\x{1f1d}\x{1f20}-\x{1f45}\x{1f48}-\x{1f4d}"
    r"\x{1f50}-\x{1f57}\x{1f59}\x{1f5b}\x{1f5d}\x{1f5f}-\x{1f7d}\x{1f80}-\x{1fb4}\x{1fb6}-\x{1fbc}\x{1fbe}"
    r"\x{1fc2}-\x{1fc4}\x{1fc6}-\x{1fcc}\x{1fd0}-\x{1fd3}\x{1fd6}-\x{1fdb}\x{1fe0}-\x{1fec}"
    r"\x{1ff2}-\x{1ff4}\x{1ff6}-\x{1ffc}\x{2102}\x{2107}\x{210a}-\x{2113}\x{2115}\x{2119}-\x{211d}\x{2124}"
    r"\x{2126}\x{2128}\x{212a}-\x{212d}\x{212f}-\x{2134}\x{2139}\x{213c}-\x{213f}\x{2145}-\x{2149}\x{214e}"
    r"\x{2183}\x{2184}\x{2c00}-\x{2c7b}\x{2c7e}-\x{2ce4}\x{2ceb}-\x{2cee}\x{2cf2}\x{2cf3}\x{a640}-\x{a66d}"
    r"\x{a680}-\x{a69b}\x{a722}-\x{a76f}\x{a771}-\x{a787}\x{a78b}-\x{a78e}\x{ab70}-\x{abbf}"
    r"\x{fb00}-\x{fb06}\x{fb13}-\x{fb17}\x{ff21}-\x{ff3a}\x{ff41}-\x{ff5a}\x{10400}-\x{1044f}"
    r"\x{104b0}-\x{104d3}\x{104d8}-\x{104fb}\x{10c80}-\x{10cb2}\x{10cc0}-\x{10cf2}\x{118a0}-\x{118df}"
    r"\x{1e900}-\x{1e943}"
    r"]+",
    r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
    r"\s+$",
    r"[一-龥ࠀ-一가-퟿]+",
]
DEEPSEEK_V3 = [
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
]

WORDS = {
    "latin": """the quick brown fox jumps over a lazy dog and then some other words follow because language
        models read text that people wrote about towns rivers ships companies recipes weather history music
        Straße naïve café façade Ångström jalapeño piñata Crème brûlée Łódź Čapek Øresund smörgåsbord it's don't
        we're they've I'm you'll he'd IT'S DON'T WE'RE return returned returning unbelievable internationally""",
    "code": """int main(void) { return 0; } #include <stdio.h> def f(x): self.value = None if x == 1 else [] for i
        in range(10): print(f"{i}") -> => != && || /* comment */ // todo: std::vector<int> foo_bar camelCase
        HTTPServer 0xFF 1e-9 \\n "string" 'c' `x` @decorator $var %d #define a+=b x->y; <div class="a">&amp;</div>
        SELECT * FROM t WHERE a<>b; {"key": [1, 2.5, null, true]}""",
    "cyrillic": "Съешь же ещё этих мягких французских булок, да выпей чаю. нещо на Български Їжак ґанок",
    "greek": "Ξεσκεπάζω τὴν ψυχοφθόρα βδελυγμία, ὁ λόγος ἦν πρὸς τὸν θεόν Ωμέγα ΣΊΣΥΦΟΣ ς",
    "cjk": "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏。，、！？你好世界我们的模型 東京都 大阪 中文 龥 㐀 𠀀 𠜎",
    "kana": "いろはにほへとちりぬるを カタカナ ひらがな ーゞ ゟ ヿ ｶﾀｶﾅ こんにちは、世界。",
    "hangul": "키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다. 안녕하세요 한글 ㄱㄴㄷ 각",
    "arabic": "الحمد لله رب العالمين مرحبا بالعالم ١٢٣٤ ۵۶ هَذَا نَصٌّ مُشَكَّل، وَمَا؟",
    "hebrew": "שלום עולם בְּרֵאשִׁית בָּרָא אֱלֹהִים",
    "devanagari": "नमस्ते दुनिया क्षत्रिय हिन्दी में पाठ ज्ञ १२३ ।",
    "thai": "สวัสดีชาวโลก ภาษาไทย กำลัง น้ำ ๑๒๓",
    "khmer": "កាន់តែពិសេសអាចខលចេញ",
}
EMOJI = ["😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇫🇷", "✅", "❤️", "🦙", "🚀", "😶‍🌫️", "1️⃣", "☃", "🧑🏿‍🚀", "⚡︎"]
MARKS = ["e\u0301", "n\u0303", "a\u030a\u0323", "o\u0302\u0301", "\u1e0b\u0323", "q\u0307\u0323", "\u0344", "\u2126",
         "\u212b", "ﬁ", "ﬃ", "½", "²", "Ⅷ", "①", "㍿", "\ufdfa", "İ", "ǅ", "\u1100\u1161\u11a8", "가\u11a8", "\u0958",
         "\u0f73", "Ａｂｃ１２", "ª", "\u01c4", "Å", "ſt", "ẛ̣"]
CONTROLS = ["\x00", "\x01", "\x07", "\x08", "\x0b", "\x0c", "\x1b", "\x1f", "\x7f", "\x80", "\x85", "\x9f", "\xa0", "\xad",
            "\u200b", "\u200c", "\u200d", "\u2028", "\u2029", "\u202e", "\u2060", "\ufeff", "\ufffd", "\ue000", "\U0010ffff",
            "\ufffe", "\u180e", "\u3000", "\u2003", "\u1680", "\u00ad"]
INVALID = [b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf5\x80\x80\x80", b"\x80\x80",
           b"\xe0\x80\x80", b"\xf4\x90\x80\x80", b"\xfe\xfe", b"\xe1\x80\xc3\xa9", b"\xf0\x90\xc3"]
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<unk>", "<|begin_of_text|>", "<|eot_id|>",
            "<tool_call>", "</tool_call>", "[INST]", "[/INST]", "<|reserved_special_token_1|>",
            "<|reserved_special_token_12|>", "<mask>", "<|im_", "<|endoftext|", "<pad>", "<0x0A>", "<0xFF>", METASPACE, "Ġ",
            "word", "WORD", "é", "<｜User｜>", "<｜begin▁of▁sentence｜>", "<|image|>", "<|IMAGE|>"]


def corpus(seed):
    """Lines of text of all sorts to train on."""
    chance = random.Random(seed)
    lines = []
    for _ in range(1500):
        script = chance.choice(list(WORDS) + ["latin"] * 6 + ["code"] * 3)
        words = WORDS[script].split()
        line = " ".join(chance.choice(words) for _ in range(chance.randint(3, 14)))
        if chance.random() < 0.2:
            line += " " + chance.choice(EMOJI + MARKS)
        if chance.random() < 0.2:
            line += " " * chance.randint(1, 8) + str(chance.randint(0, 10 ** chance.randint(1, 9)))
        if chance.random() < 0.2:
            line += chance.choice(["\n", "\n\n", "\r\n", "\t", "\n    ", "\n\t\t"])
        lines.append(line)
    return lines


def phrase(chance, script, count):
    return " ".join(chance.choice(WORDS[script].split()) for _ in range(count))


def common_corpus(seed, characters):
    """The corpus without its rarest characters. (The trainer's own limit breaks ties by chance.)"""
    lines = corpus(seed)
    counts = {}
    for line in lines:
        for character in line:
            counts[character] = counts.get(character, 0) + 1
    kept = set(sorted(counts, key=lambda character: (-counts[character], character))[:characters])
    return ["".join(character for character in line if character in kept) for line in lines]


def make_strings(seed, count):
    """At least `count` distinct byte strings, fixed cases first."""
    chance = random.Random(seed)
    fixed = ["", " ", "  ", "   ", "\n", "\r\n", "\t", "\n\n", " \n ", "a", " a", "a ", "  a  ", "Hello world", " Hello",
             "Hello, y'all! How are you 😁 ?", "I'VE can't WE'LL 'S 'ſ '\u212a 'M", "''''", "3", "33", "333", "3333", "33333333",
             "1,234.56 ½ Ⅷ ٣٤", "\n\n\n\na\n  b\n\n   c", "a\u00a0b\u2003c\u3000d\u180ee\u0085f", "x" * 70, "A" * 70,
             "aA" * 40, "=" * 67, "\u00e9" * 33, "天" * 40, "é" * 30, " " * 64, " " * 65 + "x", "\n" * 40, "\t" * 33 + "x",
             " \t\n" * 12, "1" * 50, "0123456789" * 6, "'" * 40, "a" + "\u0301" * 40, "\u0323\u0301" * 24, "😀" * 12,
             "e\u0301\u0323" * 8, "\u200d" * 9, "ab\u0000cd", "word", " word ", "words word-word word", "<mask>", "  <mask>  x",
             "<s>", "<s><s>", "a<s>b", "<s> a", "<<s>>", "<|<|endoftext|>|>", METASPACE, METASPACE * 3, " " + METASPACE + "a",
             "a" + METASPACE + "b", "<0x41>", "ĠHello", "Ġ", "Äĥ", "it''s", "O'Reilly's'd've", "foo.bar.baz()", "__init__",
             "http://example.org/a?b=c&d=%20#e", "C:\\Users\\x", "if(x){\n\treturn y;\n}\n", "def f():\n    return 1\n\n\n"]
    strings = [text.encode() for text in fixed] + INVALID + SPECIALS_BYTES
    seen = set(strings)

    def piece():
        kind = chance.random()
        if kind < 0.34:
            return phrase(chance, chance.choice(list(WORDS)), chance.randint(1, 4)).encode()
        if kind < 0.46:
            return phrase(chance, "code", chance.randint(1, 4)).encode()
        if kind < 0.54:
            return "".join(chance.choice(EMOJI) for _ in range(chance.randint(1, 3))).encode()
        if kind < 0.62:
            return "".join(chance.choice(MARKS) for _ in range(chance.randint(1, 3))).encode()
        if kind < 0.68:
            return "".join(chance.choice(CONTROLS) for _ in range(chance.randint(1, 3))).encode()
        if kind < 0.74:
            return chance.choice([" ", "\n", "\t", "\r\n", "\u00a0", " \n", "\u3000"]).encode() * chance.randint(1, 12)
        if kind < 0.80:
            return str(chance.randint(0, 10 ** chance.randint(1, 12))).encode()
        if kind < 0.85:
            return chance.choice(INVALID)
        if kind < 0.93:
            return chance.choice(SPECIALS).encode()
        if kind < 0.96:
            while True:
                codepoint = chance.choice([chance.randint(0x20, 0x24FF), chance.randint(0x2500, 0xD7FF),
                                           chance.randint(0x10000, 0x1FAFF)])
                if assigned(codepoint):
                    return chr(codepoint).encode()
        return bytes(chance.randint(0, 255) for _ in range(chance.randint(1, 4)))

    while len(strings) < count:
        glue = chance.choice([b"", b"", b" ", b" ", b"\n", b"  "])
        text = glue.join(piece() for _ in range(chance.choice([1, 1, 2, 2, 3])))
        if len(text) > 40:
            text = text[:40]  # may cut a character in two: that is a case as well
        if text not in seen:
            seen.add(text)
            strings.append(text)
    return strings


SPECIALS_BYTES = [text.encode() for text in SPECIALS if text not in ("<s>", "<mask>", "word", METASPACE, "Ġ")]


def assigned(codepoint):
    """Assigned, and before Unicode 13: later characters differ between versions of the libraries."""
    import unicodedata
    return unicodedata.category(chr(codepoint)) not in ("Cn", "Cs") and unicodedata.ucd_3_2_0.category(
        chr(codepoint)) != "Cn"


# ---------------------------------------------------------------------------- the kinds --------


def byte_level(pre, specials, added=(), normalizer=None, post=None, vocab_size=1000, **model_options):
    tokenizer = Tokenizer(models.BPE(**model_options))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  show_progress=False)
    tokenizer.train_from_iterator(corpus(1), trainer)
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in specials])
    tokenizer.add_tokens(list(added))
    tokenizer.post_processor = post(tokenizer) if post else processors.ByteLevel(trim_offsets=False)
    return tokenizer


def begin_with(token):
    def make(tokenizer):
        template = processors.TemplateProcessing(single=f"{token} $A", pair=f"{token} $A {token} $B",
                                                 special_tokens=[(token, tokenizer.token_to_id(token))])
        return processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return make


def splits(patterns, behavior="isolated"):
    return [pre_tokenizers.Split(Regex(pattern), behavior) for pattern in patterns]


def gpt2():
    return byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), ["<|endoftext|>"])


def gpt2_prefix():
    return byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True), ["<s>", "</s>", "<unk>"], added=[
        AddedToken("<mask>", lstrip=True, normalized=False)])


def llama3():
    specials = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"] + [
        f"<|reserved_special_token_{i}|>" for i in range(20)]
    tokenizer = byte_level(pre_tokenizers.Sequence(splits([LLAMA3]) + [
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]), [])
    state = json.loads(tokenizer.to_str())
    state["model"]["ignore_merges"] = True
    # words that are in the vocabulary but that no merges lead to
    for word in ["Ġunbelievable", "ĊĠĊ", "Ġreturning"]:
        state["model"]["vocab"].setdefault(word, len(state["model"]["vocab"]))
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in specials])
    tokenizer.post_processor = begin_with("<|begin_of_text|>")(tokenizer)
    return tokenizer


def qwen2():
    return byte_level(pre_tokenizers.Sequence(splits([QWEN2]) + [
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], normalizer=normalizers.NFC(),
        added=[AddedToken("<tool_call>", normalized=False), AddedToken("</tool_call>", normalized=False)])


def gpt4o():
    return byte_level(pre_tokenizers.Sequence(splits([GPT4O]) + [
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]), ["<|endoftext|>"])


def deepseek_llm():
    return byte_level(pre_tokenizers.Sequence(splits(DEEPSEEK_LLM) + [
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
        ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"], added=[AddedToken("<｜User｜>", normalized=True)],
        normalizer=normalizers.Sequence([]), post=begin_with("<｜begin▁of▁sentence｜>"))


def deepseek_v3():
    return byte_level(pre_tokenizers.Sequence(splits(DEEPSEEK_V3) + [
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
        ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>"], post=begin_with("<｜begin▁of▁sentence｜>"))


def sentencepiece_like(normalizer, pre, decoder, specials, added=()):
    """Llama-2's shape: characters, then bytes for what is not in the vocabulary."""
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trained.train_from_iterator(common_corpus(2, 260), trainers.BpeTrainer(
        vocab_size=800, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False))
    state = json.loads(trained.to_str())
    order = sorted(state["model"]["vocab"], key=state["model"]["vocab"].get)
    order[3:3] = [f"<0x{byte:02X}>" for byte in range(256)]
    state["model"].update(vocab={token: i for i, token in enumerate(order)}, byte_fallback=True, fuse_unk=True)
    state["added_tokens"] = []
    tokenizer = Tokenizer.from_str(json.dumps(state))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoder
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in specials])
    tokenizer.add_tokens(list(added))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))])
    return tokenizer


def sentencepiece_decoder(strip=True):
    steps = [decoders.Replace(METASPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    return decoders.Sequence(steps + ([decoders.Strip(" ", 1, 0)] if strip else []))


def llama2():
    tokenizer = sentencepiece_like(
        normalizers.Sequence([normalizers.Prepend(METASPACE), normalizers.Replace(" ", METASPACE)]),
        pre_tokenizers.Sequence([]), sentencepiece_decoder(), ["<unk>", "<s>", "</s>"],
        added=[AddedToken("[INST]", normalized=True), AddedToken("word", normalized=True, single_word=True)])
    state = json.loads(tokenizer.to_str())
    state["pre_tokenizer"] = None
    return Tokenizer.from_str(json.dumps(state))


def mistral():
    return sentencepiece_like(None, pre_tokenizers.Metaspace(prepend_scheme="first", split=False),
                              sentencepiece_decoder(), ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"])


def gemma():
    return sentencepiece_like(normalizers.Replace(" ", METASPACE), pre_tokenizers.Split(" ", "merged_with_previous"),
                              sentencepiece_decoder(strip=False), ["<unk>", "<s>", "</s>", "<mask>"],
                              added=[AddedToken("\n" * count, normalized=False) for count in range(2, 9)])


def characters(normalizer, pre, decoder, added=(), fuse=False, post=None):
    """BPE over characters, with an unknown token."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=fuse))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre
    if decoder is not None:
        tokenizer.decoder = decoder
    tokenizer.train_from_iterator(common_corpus(3, 200), trainers.BpeTrainer(
        vocab_size=700, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False))
    tokenizer.add_tokens(list(added))
    if post is not None:
        tokenizer.post_processor = post
    return tokenizer


def plain_words():
    return characters(
        normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Strip()]),
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("merged_with_previous"),
                                 pre_tokenizers.Digits(individual_digits=False)]),
        None, added=[AddedToken("WORD", normalized=True), AddedToken("<mask>", lstrip=True, rstrip=True, normalized=False),
                     AddedToken("<|IMAGE|>", normalized=True, rstrip=True)],
        post=processors.TemplateProcessing(single="<s> $A </s>", pair="$A $B", special_tokens=[("<s>", 1), ("</s>", 2)]))


def metaspace_words():
    return characters(
        normalizers.Sequence([normalizers.NFD(), normalizers.Replace(Regex(r"[\r\n\t]+"), " "), normalizers.Strip(True, False)]),
        pre_tokenizers.Sequence([pre_tokenizers.Metaspace(prepend_scheme="always", split=True),
                                 pre_tokenizers.Split(Regex(r"\d{1,2}+"), "contiguous"),
                                 pre_tokenizers.Split("e", "merged_with_next")]),
        decoders.Metaspace(prepend_scheme="always"), fuse=True,
        added=[AddedToken("word", single_word=True, normalized=False), AddedToken("<pad>", rstrip=True, normalized=False),
               AddedToken("é", normalized=True)])


def odd_splits():
    return characters(
        normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(r"(?<=\w)'(?=\w)"), "\u2019")]),
        pre_tokenizers.Sequence([pre_tokenizers.Metaspace(prepend_scheme="first", split=False),
                                 pre_tokenizers.Split(Regex(r"\b"), "isolated"),
                                 pre_tokenizers.Split(Regex(r"[[:punct:]]|\p{Han}|\p{^L}\p{Lu}"), "removed"),
                                 pre_tokenizers.Split(Regex(r"\W|\u0061\h"), "merged_with_previous"),
                                 pre_tokenizers.Split(Regex(r"(?=\p{Lu})"), "isolated"),
                                 pre_tokenizers.Split("o", "merged_with_previous", invert=True)]),
        decoders.Sequence([decoders.Replace(METASPACE, " "), decoders.Fuse(), decoders.Strip(" ", 2, 0),
                           decoders.Replace("the", "THE")]))


def whitespace():
    return characters(normalizers.Sequence([normalizers.NFC()]), pre_tokenizers.Whitespace(), decoders.Fuse())


KINDS = {
    "gpt2": gpt2, "gpt2-prefix": gpt2_prefix, "llama3": llama3, "qwen2": qwen2, "gpt4o": gpt4o,
    "deepseek-llm": deepseek_llm, "deepseek-v3": deepseek_v3, "llama2": llama2, "mistral": mistral, "gemma": gemma,
    "plain-words": plain_words, "metaspace-words": metaspace_words, "odd-splits": odd_splits, "whitespace": whitespace,
}

# these are compared on all strings, the others on the first of them
MAIN_KINDS = {"gpt2", "llama3", "qwen2", "deepseek-llm", "deepseek-v3", "llama2", "mistral"}
OTHER_STRINGS = 480


# ---------------------------------------------------------------------------- writing ----------


def packed(ids):
    assert all(0 <= i < 4096 for i in ids)
    return "".join(ALPHABET[i >> 6] + ALPHABET[i & 63] for i in ids)


def expected_lines(tokenizer, strings):
    inverse = tokenizer.decode(tokenizer.encode("a  bC").ids) == "a  bC"
    for index, data in enumerate(strings):
        text = data.decode(errors="replace")
        tokenizer.encode_special_tokens = False
        ids = tokenizer.encode(text).ids
        bare = tokenizer.encode(text, add_special_tokens=False).ids
        tokenizer.encode_special_tokens = True
        plain = tokenizer.encode(text, add_special_tokens=False).ids
        decoded = tokenizer.decode(ids, skip_special_tokens=True).encode()
        columns = [packed(ids), "=" if decoded == data else base64.b64encode(decoded).decode(),
                   "=" if plain == bare else packed(plain), ""]
        if columns[1] != "=" and index % 4 != 0 and not inverse:
            columns[1] = "-"
        if index % 8 == 0:
            columns[3] = base64.b64encode(tokenizer.decode(ids, skip_special_tokens=False).encode()).decode()
        yield "\t".join(columns) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("tests/vectors/tokenizer"))
    parser.add_argument("--count", type=int, default=2048, help="number of strings")
    parser.add_argument("--extra", action="append", default=[], metavar="NAME=FOLDER",
                        help="also the tokenizer.json of this folder: expected.txt only (ids below 4096)")
    arguments = parser.parse_args()
    strings = make_strings(7, arguments.count)
    if arguments.out.exists():
        shutil.rmtree(arguments.out)
    arguments.out.mkdir(parents=True)
    (arguments.out / "strings.txt").write_text("".join(base64.b64encode(data).decode() + "\n" for data in strings))
    tokenizers = {name: make() for name, make in KINDS.items()}
    for name, tokenizer in tokenizers.items():
        folder = arguments.out / name
        folder.mkdir()
        (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=False) + "\n")
    for extra in arguments.extra:
        name, source = extra.split("=", 1)
        (arguments.out / name).mkdir()
        tokenizers[name] = Tokenizer.from_file(str(pathlib.Path(source) / "tokenizer.json"))
    for name, tokenizer in tokenizers.items():
        # what is read from the file is what is compared, not what is in memory
        with open(arguments.out / name / "expected.txt", "w") as file:
            compared = strings if name in MAIN_KINDS or name not in KINDS else strings[:OTHER_STRINGS]
            file.writelines(expected_lines(Tokenizer.from_str(tokenizer.to_str()), compared))
        print(name, tokenizer.get_vocab_size())


if __name__ == "__main__":
    main()
