"""From worlds to training rows: pieces, token ids, masks and packing.

A prompt is the concatenation of separately tokenized pieces, as in the engine, never re-tokenized
across a seam:

    <|im_start|>system\\n | SYSTEM | <|im_end|>\\n<|im_start|>user\\n | D1 | \\n\\n | D2 | \\n\\n | QUESTION
    | <|im_end|>\\n<|im_start|>assistant\\n | ANSWER | <|im_end|>

One sample is a trunk (system and documents) and several branches (a conversation each). Branches
see the trunk and themselves, and their positions go on from the trunk's end, so each is the same as
a prompt of its own, at a fraction of its cost. Samples are packed into rows.

The mask is three numbers per token. Token q may see token k when k <= q and

    k >= tail[q]   or   head_start[q] <= k < head_end[q]

    trunk, causal            tail = start of the sample
    document, blocked        tail = start of the document
    document, with anchor    the same, and head = [sample, first document)
    branch                   tail = start of the branch, head = [sample, end of the trunk)
    padding                  tail = itself
"""

import random
from dataclasses import dataclass, field

import numpy as np

from . import encyclopedia
from .names import Names

SYSTEM_OPEN = "<|im_start|>system\n"
SYSTEM_CLOSE = "<|im_end|>\n<|im_start|>user\n"
USER_OPEN = "<|im_start|>user\n"
GLUE = "\n\n"
ANSWER_OPEN = "<|im_end|>\n<|im_start|>assistant\n"
ANSWER_CLOSE = "<|im_end|>"
NEXT_TURN = "\n<|im_start|>user\n"  # after ANSWER_CLOSE; tokenized as one piece with it in a prompt

MASKS = ("causal", "anchored", "block")
MASK_RATES = (0.5, 0.25, 0.25)
POSITIONS_MAX = 4000
PROSE_WEIGHT = 0.1  # of the loss on everything that is not an answer
DECISION_WEIGHT = 3.0  # on an answer's first two tokens, where "The documents do not say." parts from the rest
UNANSWERABLE_RATE = 0.25  # in training; rarer ones take longer to learn


@dataclass
class Sample:
    tokens: list = field(default_factory=list)
    positions: list = field(default_factory=list)
    tail: list = field(default_factory=list)
    head_start: list = field(default_factory=list)
    head_end: list = field(default_factory=list)
    targets: list = field(default_factory=list)  # the next token, -1 for none
    weights: list = field(default_factory=list)
    answers: list = field(default_factory=list)  # (branch, first predicting index, one past the last)

    def append(self, ids, position, tail, head_end, weight, linked):
        """Adds a piece; `linked`: its first token is predicted by the token before it."""
        if linked:
            self.targets[-1] = ids[0]
            self.weights[-1] = weight
        count = len(ids)
        self.tokens += ids
        self.positions += range(position, position + count)
        self.tail += [tail] * count
        self.head_start += [0] * count
        self.head_end += [head_end] * count
        self.targets += ids[1:] + [-1]
        self.weights += [weight] * (count - 1) + [0.0]
        return position + count


class Encoder:
    """Token ids of pieces. Fixed pieces are remembered; the rest is encoded in one batch per sample."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.known = {}

    def fixed(self, text):
        if text not in self.known:
            self.known[text] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return self.known[text]

    def many(self, texts):
        return [e.ids for e in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def build_sample(encoder, system, documents, talks, mask="causal", gaps=None):
    """`talks`: a list of conversations, each a list of (query, answer); `gaps`: positions skipped before pieces."""
    sample = Sample()
    texts = [system or ""] + documents + [text for talk in talks for turn in talk for text in turn]
    encoded = iter(encoder.many(texts))
    gaps = iter(gaps or [])
    system_ids = next(encoded)
    if system is None:
        position = sample.append(encoder.fixed(USER_OPEN), 0, 0, 0, PROSE_WEIGHT, False)
    else:
        position = sample.append(encoder.fixed(SYSTEM_OPEN), 0, 0, 0, PROSE_WEIGHT, False)
        position = sample.append(system_ids, position, 0, 0, PROSE_WEIGHT, True)
        position = sample.append(encoder.fixed(SYSTEM_CLOSE), position, 0, 0, PROSE_WEIGHT, True)
    anchor_end = len(sample.tokens)
    for index in range(len(documents)):
        if index:
            position = sample.append(encoder.fixed(GLUE), position, 0, 0, PROSE_WEIGHT, True)
        position += next(gaps, 0)
        tail = 0 if mask == "causal" else len(sample.tokens)
        head_end = anchor_end if mask == "anchored" else 0
        position = sample.append(next(encoded), position, tail, head_end, PROSE_WEIGHT, mask == "causal")
    trunk_end, trunk_position = len(sample.tokens), position + next(gaps, 0)
    for branch, talk in enumerate(talks):
        tail, position = len(sample.tokens), trunk_position
        linked = False

        def add(ids, weight):
            nonlocal position, linked
            position = sample.append(ids, position, tail, trunk_end, weight, linked)
            linked = True

        if documents:
            add(encoder.fixed(GLUE), PROSE_WEIGHT)
        for turn in range(len(talk)):
            if turn:
                add(encoder.fixed(NEXT_TURN), PROSE_WEIGHT)
            add(next(encoded), PROSE_WEIGHT)
            add(encoder.fixed(ANSWER_OPEN), PROSE_WEIGHT)
            first = len(sample.tokens) - 1
            add(next(encoded), 1.0)
            add(encoder.fixed(ANSWER_CLOSE), 1.0)
            sample.weights[first] = sample.weights[first + 1] = DECISION_WEIGHT
            sample.answers.append((branch, first, len(sample.tokens) - 1))
    return sample


# --- training samples -----------------------------------------------------------------------------

NOTES = ("documents|notes|texts|pages|entries|sources|articles|files|passages|documents below|notes below|given documents|"
         "given texts|documents of the user|notes provided|encyclopedia|context").split("|")
ORDERS = ("Answer from the {}.|Answer using the {}.|Reply from the {}.|Use the {} to answer.|Answer only from the {}.|"
          "Answer the question from the {}.|Read the {} and answer.|Base your answer on the {}.|Answer with what the {} say.|"
          "You answer questions about the {}.|Rely on the {} alone.|Only the {} count.|Answer the user's questions from the {}."
          ).split("|")
MANNERS = ("You are a helpful assistant.|You are a librarian.|You are a careful archivist.|Be brief.|Be short and exact.|"
           "Keep it short.|Do not guess.|Never invent anything.|If they do not tell, say so.|Answer in one sentence.|"
           "Be polite.|You work in a small museum.|You help visitors of an archive.|Write plain English.|You are cento-tiny."
           ).split("|")


def make_system(rng):
    """A system message, or None. One in three is the plain one that the README uses."""
    draw = rng.random()
    if draw < 0.12:
        return None
    if draw < 0.4:
        return "Answer from the documents."
    order = rng.choice(ORDERS).format(rng.choice(NOTES))
    sentences = [order] + rng.sample(MANNERS, rng.choice((0, 0, 1, 1, 2, 3, 5)))
    rng.shuffle(sentences)
    return " ".join(sentences)


WRAPPERS = ("Question: {}|According to the documents, {l}|Please tell me: {l}|Tell me, {l}|{} Please answer.|I would like to know: {l}|"
            "Hello! {}|Do you know {l}|{} Thank you.").split("|")


def roughen(query, rng):
    """The same question as people type it."""
    draw = rng.random()
    lowered = query[0].lower() + query[1:]
    if draw < 0.05:
        return rng.choice(WRAPPERS).format(query, l=lowered)
    if draw < 0.08:
        return lowered
    if draw < 0.12:
        return query.rstrip("?")
    return query


def make_sample(encoder, rng):
    count = 0 if rng.random() < 0.02 else rng.randint(1, 8)
    world = encyclopedia.make_world(rng, Names(rng), count + rng.choice((0, 0, 1, 2)), short_rate=0.08)
    entities = rng.sample(world.entities, count)
    talks = []
    for _ in range(3 if count == 0 else 4 + count):
        turns = 1 if rng.random() < 0.6 else rng.randint(2, 4)
        talk = encyclopedia.conversation(entities, rng, world, turns, UNANSWERABLE_RATE, small_talk_rate=0.03)
        talks.append([(roughen(t.query, rng), t.answer) for t in talk])
    mask = rng.choices(MASKS, MASK_RATES)[0]
    gaps = None
    if rng.random() < 0.2:  # as if other documents stood between these
        room = rng.randint(0, 1500)
        cuts = sorted(rng.randint(0, room) for _ in range(count))
        gaps = [b - a for a, b in zip([0] + cuts, cuts + [room])]
    return build_sample(encoder, make_system(rng), [e.document for e in entities], talks, mask, gaps)


# --- packing --------------------------------------------------------------------------------------

FIELDS = ("tokens", "positions", "tail", "head_start", "head_end", "targets")


class Rows:
    """A batch of rows of `length` tokens, filled first-fit."""

    def __init__(self, rows, length):
        self.data = {name: np.zeros((rows, length), np.int32) for name in FIELDS}
        self.data["targets"][:] = -1
        self.data["tail"][:] = np.arange(length)
        self.weights = np.zeros((rows, length), np.float32)
        self.used = [0] * rows
        self.length = length

    def place(self, sample):
        """(row, offset) where the sample went, or None when no row has room."""
        count = len(sample.tokens)
        for row, offset in enumerate(self.used):
            if offset + count <= self.length:
                break
        else:
            return None
        span = slice(offset, offset + count)
        for name in FIELDS:
            self.data[name][row, span] = getattr(sample, name)
        for name in ("tail", "head_start", "head_end"):
            self.data[name][row, span] += offset
        self.weights[row, span] = sample.weights
        self.used[row] += count
        return row, offset

    def arrays(self):
        return dict(self.data, weights=self.weights)


class TrainingBatches:
    """Batch number -> rows of fresh samples: a map-style dataset, the same for a seed on any number of workers."""

    def __init__(self, tokenizer_path, seed, rows, length, count):
        self.tokenizer_path, self.seed, self.rows, self.length, self.count = tokenizer_path, seed, rows, length, count
        self.encoder = None

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if self.encoder is None:
            from tokenizers import Tokenizer
            self.encoder = Encoder(Tokenizer.from_file(self.tokenizer_path))
        rng = random.Random(f"{self.seed}:{index}")
        rows, misses = Rows(self.rows, self.length), 0
        while misses < 4:
            sample = make_sample(self.encoder, rng)
            if max(sample.positions) >= POSITIONS_MAX or rows.place(sample) is None:
                misses += 1
        return rows.arrays()
