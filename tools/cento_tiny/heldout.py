"""The held-out question set, bench/qa/cento-tiny.json: names that training never sees, one fixed seed.

Questions are interleaved, so that the first N are a balanced sample: question i is of kind i mod 10
and over 1 + (i div 10) mod 8 documents.
"""

import json
import random
import re

from . import encyclopedia
from .names import Names, is_held_out
from .schema import KINDS

SEED = 20261124
SYSTEM = "Answer from the documents."
WORLDS = 250
WORLD_DOCUMENTS = 8
QUESTION_KINDS = list(KINDS) + ["unanswerable", "conversation"]


def _one_conversation(entities, rng, world):
    while True:
        turns = encyclopedia.conversation(entities, rng, world, rng.randint(2, 4))
        if any(re.search(r"\b(it|its|she|her|he|him|his)\b", t.query) for t in turns[1:]):
            return turns


def build(questions_per_kind=1000, seed=SEED):
    rng = random.Random(seed)
    worlds, documents, words = [], [], set()
    for _ in range(WORLDS):
        names = Names(rng, held_out=True)
        world = encyclopedia.make_world(rng, names, WORLD_DOCUMENTS)
        worlds.append((world, len(documents)))
        documents += [entity.document for entity in world.entities]
        words |= names.words
    questions = []
    for index in range(questions_per_kind * len(QUESTION_KINDS)):
        kind, count = QUESTION_KINDS[index % len(QUESTION_KINDS)], 1 + index // len(QUESTION_KINDS) % WORLD_DOCUMENTS
        while True:
            world, first = rng.choice(worlds)
            about = [e for e in world.entities if kind not in KINDS or e.kind.key == kind]
            if about:
                break
        target = rng.choice(about)
        entities = rng.sample([e for e in world.entities if e is not target], count - 1) + [target]
        rng.shuffle(entities)
        question = {"kind": kind, "documents": [first + world.entities.index(e) for e in entities]}
        if kind == "conversation":
            turns = _one_conversation(entities, rng, world)
            question["turns"] = [{"query": t.query, "answer": t.answer} for t in turns]
        else:
            if kind == "unanswerable":
                turn = encyclopedia.unanswerable(entities, rng, world)
            else:
                turn = encyclopedia.answerable([target], rng)
            question.update(query=turn.query, answer=turn.answer)
        questions.append(question)
    for world, _ in worlds:
        words |= world.names.words
    assert all(is_held_out(word) for word in words)
    return {"version": 1, "system": SYSTEM, "documents": documents, "questions": questions}


def save(held_out, path):
    """One document or question per line: compact, and readable in a diff."""
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"version":1,"system":%s,\n"documents":[\n' % json.dumps(held_out["system"]))
        for key, end in (("documents", '],\n"questions":[\n'), ("questions", "]}\n")):
            lines = [json.dumps(item, ensure_ascii=False, separators=(",", ":")) for item in held_out[key]]
            file.write(",\n".join(lines) + end)
