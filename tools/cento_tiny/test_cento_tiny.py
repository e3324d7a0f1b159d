#!/usr/bin/env python3
"""Checks of the generator, the sequences and the released folder. Run: python3 tools/cento_tiny/test_cento_tiny.py

Needs tokenizers; the test against Hugging Face's logits needs torch too and is skipped without it.
"""

import json
import random
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from tokenizers import Tokenizer

from cento_tiny import encyclopedia, heldout, sequences
from cento_tiny.names import Names, is_held_out
from cento_tiny.schema import KINDS, NOT_TOLD

MODEL = ROOT / "models/cento-tiny"
QUESTIONS = ROOT / "bench/qa/cento-tiny.json"
VECTORS = ROOT / "tests/vectors/cento_tiny_reference.json"

try:
    import torch
except ImportError:
    torch = None


def worlds(count, held_out=False, seed=7):
    rng = random.Random(seed)
    for _ in range(count):
        yield encyclopedia.make_world(rng, Names(rng, held_out), rng.randint(1, 8)), rng


def encoder():
    return sequences.Encoder(Tokenizer.from_file(str(MODEL / "tokenizer.json")))


class Generator(unittest.TestCase):
    def test_schema_has_forty_relations_in_four_phrasings_each(self):
        relations = [r for kind in KINDS.values() for r in kind.relations]
        self.assertGreaterEqual(len(KINDS), 6)
        self.assertGreaterEqual(len(relations), 40)
        for relation in relations:
            self.assertGreaterEqual(len(relation.clauses) + len(relation.says), 4, relation.key)
            self.assertGreaterEqual(len(relation.asks) + len(relation.ask_only_if_told), 4, relation.key)

    def test_training_never_uses_a_held_out_word(self):
        for world, _ in worlds(50):
            self.assertFalse(any(is_held_out(word) for word in world.names.words))
        for world, _ in worlds(50, held_out=True):
            self.assertTrue(all(is_held_out(word) for word in world.names.words))

    def test_documents_tell_every_fact_they_are_asked_for(self):
        for world, _ in worlds(100):
            for entity in world.entities:
                for key, value in entity.facts.items():
                    self.assertIn(value.lower(), entity.document.lower(), (entity.name, key))
                self.assertNotIn("{", entity.document)

    def test_names_in_a_world_are_distinct(self):
        for world, _ in worlds(100):
            names = [entity.name for entity in world.entities]
            self.assertEqual(len(names), len(set(names)))

    def test_documents_have_five_to_twelve_sentences(self):
        for world, _ in worlds(60):
            for entity in world.entities:
                sentences = entity.document.count(". ") + entity.document.count(".\n") + 1
                self.assertTrue(4 <= sentences <= 12, entity.document)  # two facts may share a sentence


class HeldOut(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.held_out = json.loads(QUESTIONS.read_text(encoding="utf-8"))

    def test_the_committed_file_is_what_the_generator_makes(self):
        self.assertEqual(heldout.build(), self.held_out)

    def test_kinds_and_document_counts_are_balanced_from_the_start(self):
        first = self.held_out["questions"][:80]
        for kind in heldout.QUESTION_KINDS:
            counts = [len(q["documents"]) for q in first if q["kind"] == kind]
            self.assertEqual(counts, list(range(1, 9)))

    def test_unanswerable_means_the_fixed_sentence(self):
        for question in self.held_out["questions"]:
            if question["kind"] == "unanswerable":
                self.assertEqual(question["answer"], NOT_TOLD)
            elif "answer" in question:
                self.assertNotEqual(question["answer"], NOT_TOLD)


class Sequences(unittest.TestCase):
    def test_a_branch_is_the_concatenation_of_its_pieces(self):
        encode, documents = encoder(), ["Alpha is a town.", "Beta is a town."]
        talks = [[("Where is Alpha?", "Alpha lies in Gamma.")], [("Hello", "Hello!"), ("Where is Beta?", NOT_TOLD)]]
        sample = sequences.build_sample(encode, "Answer.", documents, talks)
        pieces = [sequences.SYSTEM_OPEN, "Answer.", sequences.SYSTEM_CLOSE, documents[0], sequences.GLUE, documents[1],
                  sequences.GLUE, "Hello", sequences.ANSWER_OPEN, "Hello!", sequences.ANSWER_CLOSE + sequences.NEXT_TURN,
                  "Where is Beta?", sequences.ANSWER_OPEN, NOT_TOLD, sequences.ANSWER_CLOSE]
        expected = [token for ids in encode.many(pieces) for token in ids]
        start = max(sample.tail)
        trunk_end = sample.head_end[-1]
        self.assertEqual(sample.tokens[:trunk_end] + sample.tokens[start:], expected)
        self.assertEqual(sample.positions[:trunk_end] + sample.positions[start:], list(range(len(expected))))

    def test_blocked_documents_see_themselves_and_the_anchor_only(self):
        encode = encoder()
        for mask in ("block", "anchored"):
            sample = sequences.build_sample(encode, "Answer.", ["One two three.", "Four five six."], [[("Hi", "Hello!")]], mask)
            anchor_end = sum(len(ids) for ids in encode.many([sequences.SYSTEM_OPEN, "Answer.", sequences.SYSTEM_CLOSE]))
            second = sample.tail[sample.tokens.index(encode.many(["Four"])[0][0])]
            visible = [k for k in range(second + 1) if k >= sample.tail[second]
                       or sample.head_start[second] <= k < sample.head_end[second]]
            self.assertEqual(visible, [second] if mask == "block" else list(range(anchor_end)) + [second])

    def test_batches_depend_on_the_seed_alone(self):
        path = str(MODEL / "tokenizer.json")
        first, again = (sequences.TrainingBatches(path, 5, 2, 2048, 10)[3] for _ in range(2))
        for name in first:
            self.assertTrue((first[name] == again[name]).all(), name)


class Released(unittest.TestCase):
    def test_the_folder_has_at_most_14_megabytes(self):
        self.assertLessEqual(sum(file.stat().st_size for file in MODEL.iterdir()), 14_000_000)

    @unittest.skipIf(torch is None, "needs torch")
    def test_the_training_network_gives_hugging_faces_logits(self):
        from safetensors.torch import load_file

        from cento_tiny import model as network, reference
        net = network.CentoTiny(network.Config())
        net.load_state_dict(load_file(MODEL / "model.safetensors"))
        net.float().eval()
        for record in json.loads(VECTORS.read_text())["records"]:
            ids = torch.tensor([record["prompt_ids"]])
            mask = reference.additive_mask(ids.shape[1], record["document_pieces"], record["mask"] == "block")
            with torch.no_grad():
                logits = net.logits(net.hidden(ids, torch.arange(ids.shape[1])[None], mask)[:, -1])[0]
            for token, value in record["logits_top"]:
                self.assertAlmostEqual(logits[token].item(), value, delta=2e-3)
            self.assertEqual(record["answer"], record["expected"])


if __name__ == "__main__":
    unittest.main()
