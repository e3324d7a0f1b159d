"""Reference vectors for the engine: prompts, masks, greedy answers and logits from `transformers`.

The weights are the released bf16 ones in f32 arithmetic. For `block` prompts the mask lets the
tokens of each document see only that document; `pieces` gives every piece's [start, end).
"""

import json

import torch

from .evaluate import turns_of
from .sequences import ANSWER_OPEN, GLUE, SYSTEM_CLOSE, SYSTEM_OPEN

PROMPTS = 8
ANSWER_TOKENS_MAX = 48
TOP = 20


def prompt_pieces(encode, held_out, question):
    """[(is_document, ids)] of the question's first turn."""
    pieces = [(False, encode(SYSTEM_OPEN)), (False, encode(held_out["system"])), (False, encode(SYSTEM_CLOSE))]
    for document in question["documents"]:
        pieces += [(True, encode(held_out["documents"][document])), (False, encode(GLUE))]
    return pieces + [(False, encode(turns_of(question)[0][0])), (False, encode(ANSWER_OPEN))]


def additive_mask(count, documents, block):
    visible = torch.ones(count, count).tril().bool()
    if block:
        for start, end in documents:
            visible[start:end, :start] = False
    return torch.where(visible, 0.0, torch.finfo(torch.float32).min)[None, None]


@torch.no_grad()
def write(folder, held_out, path):
    from transformers import AutoModelForCausalLM, AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")

    def encode(text):
        return tokenizer.encode(text, add_special_tokens=False)

    records = []
    for index in range(PROMPTS):
        number = index * 11  # one of each kind of entry, over 1 to 8 documents
        question = held_out["questions"][number]
        pieces = prompt_pieces(encode, held_out, question)
        ids, spans, documents = [], [], []
        for is_document, piece in pieces:
            spans.append([len(ids), len(ids) + len(piece)])
            if is_document:
                documents.append(spans[-1])
            ids += piece
        record = {"question": number, "mask": "block" if index % 2 else "causal", "prompt_ids": ids, "pieces": spans,
                  "document_pieces": documents, "expected": turns_of(question)[0][1]}
        answer = []
        while len(answer) < ANSWER_TOKENS_MAX:
            tokens = torch.tensor([ids + answer])
            mask = additive_mask(tokens.shape[1], documents, record["mask"] == "block")
            logits = model(tokens, attention_mask=mask, position_ids=torch.arange(tokens.shape[1])[None]).logits[0, -1]
            if not answer:
                values, indices = logits.topk(TOP)
                record["logits_top"] = [[i, round(v, 6)] for i, v in zip(indices.tolist(), values.tolist())]
            answer.append(int(logits.argmax()))
            if answer[-1] == end:
                break
        record["answer_ids"] = answer
        record["answer"] = tokenizer.decode(answer, skip_special_tokens=True)
        records.append(record)
    header = {"model": "models/cento-tiny", "questions": "bench/qa/cento-tiny.json", "arithmetic": "f32, bf16 weights"}
    with open(path, "w", encoding="utf-8") as file:
        file.write(json.dumps(header)[:-1] + ', "records": [\n')
        file.write(",\n".join(json.dumps(r, ensure_ascii=False) for r in records) + "\n]}\n")
    return records
