"""Accuracy on the held-out set: greedy decoding, exact match, every turn of a conversation.

Greedy decoding gives exactly the expected answer if and only if, with the expected answer fed in,
the most likely token is the expected one at every place, its end included. So one forward pass over
packed rows judges a question, with no decoding loop.
"""

import json
from collections import defaultdict

import torch

from .sequences import Encoder, Rows, build_sample

MODES = {"exact": "causal", "independent": "block", "anchored": "anchored"}
CHUNK = 160  # questions a batch: 20 of each number of documents


def turns_of(question):
    turns = question.get("turns") or [question]
    return [(turn["query"], turn["answer"]) for turn in turns]


class EvaluationBatches:
    """Batch number -> (arrays, [(question, row, [predicting spans])])."""

    def __init__(self, tokenizer_path, held_out, mode, rows, length, limit=None):
        self.tokenizer_path, self.held_out, self.mask = tokenizer_path, held_out, MODES[mode]
        self.rows, self.length = rows, length
        self.count = min(limit or len(held_out["questions"]), len(held_out["questions"]))
        self.chunk = CHUNK if rows * length >= 1 << 17 else max(1, rows * length // 1600)

    def __len__(self):
        return -(-self.count // self.chunk)

    def __getitem__(self, index):
        from tokenizers import Tokenizer
        encoder, rows, where = Encoder(Tokenizer.from_file(self.tokenizer_path)), Rows(self.rows, self.length), []
        for number in range(index * self.chunk, min(self.count, (index + 1) * self.chunk)):
            question = self.held_out["questions"][number]
            documents = [self.held_out["documents"][d] for d in question["documents"]]
            sample = build_sample(encoder, self.held_out["system"], documents, [turns_of(question)], self.mask)
            row, offset = rows.place(sample)
            where.append((number, row, [(offset + a, offset + b) for _, a, b in sample.answers]))
        return rows.arrays(), where


def identity(item):
    return item


@torch.no_grad()
def judge(model, masks, batches, workers):
    """question number -> None if right, else the predicted tokens of its first wrong turn."""
    verdicts, device = {}, masks.device
    loader = torch.utils.data.DataLoader(batches, batch_size=None, num_workers=workers, collate_fn=identity)
    for arrays, where in loader:
        batch = {name: torch.as_tensor(array).to(device) for name, array in arrays.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            hidden = model.hidden(batch["tokens"], batch["positions"], masks(batch))
            best = torch.cat([model.logits(part).argmax(-1) for part in hidden.split(4)])
        right, best = (best == batch["targets"]).cpu(), best.cpu()
        for number, row, spans in where:
            wrong = [span for span in spans if not right[row, span[0]:span[1]].all()]
            verdicts[number] = best[row, wrong[0][0]:wrong[0][1]].tolist() if wrong else None
    return verdicts


def summarize(held_out, verdicts):
    """{"all": accuracy, "kind": {...}, "documents": {...}} in per cent."""
    tallies = defaultdict(lambda: [0, 0])
    for number, wrong in verdicts.items():
        question = held_out["questions"][number]
        for key in ("all", ("kind", question["kind"]), ("documents", str(len(question["documents"])))):
            tallies[key][0] += wrong is None
            tallies[key][1] += 1
    summary = {"all": None, "questions": len(verdicts), "kind": {}, "documents": {}}
    for key, (right, count) in tallies.items():
        percent = round(100 * right / count, 2)
        if key == "all":
            summary["all"] = percent
        else:
            summary[key[0]][key[1]] = percent
    return summary


def print_table(summaries):
    """Modes as columns; all, kinds and numbers of documents as rows."""
    modes = list(summaries)
    print(f"{'':16}" + "".join(f"{mode:>13}" for mode in modes))
    print(f"{'all':16}" + "".join(f"{summaries[m]['all']:13.2f}" for m in modes))
    for group in ("kind", "documents"):
        for key in summaries[modes[0]][group]:
            label = key if group == "kind" else f"{key} document" + ("s" if key != "1" else "")
            print(f"{label:16}" + "".join(f"{summaries[m][group][key]:13.2f}" for m in modes))


def failures(held_out, verdicts, tokenizer, limit=40):
    """Readable failures: expected against predicted (predictions given the expected prefix)."""
    lines = []
    for number, wrong in verdicts.items():
        if wrong is not None and len(lines) < limit:
            question = held_out["questions"][number]
            lines.append(json.dumps({"question": number, "kind": question["kind"], "documents": len(question["documents"]),
                                     "turns": turns_of(question), "predicted": tokenizer.decode(wrong, skip_special_tokens=False)},
                                    ensure_ascii=False))
    return lines
