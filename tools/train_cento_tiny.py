#!/usr/bin/env python3
"""Makes cento-tiny, the default model, from nothing: tokenizer, held-out questions, training, export.

    python3 tools/train_cento_tiny.py                 # everything; one GPU, under 15 minutes
    python3 tools/train_cento_tiny.py --stages data   # only the tokenizer and the question set
    python3 tools/train_cento_tiny.py --stages evaluate,reference

Needs torch, tokenizers, safetensors; `transformers` for the stage `reference`. No network. With the
same --seed the data, the batches and their order are the same on any machine. `--minutes` bounds the
training's wall clock: the learning rate then ends its descent on time, whatever step that is.
"""

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the workers are the parallelism

import torch
import torch.nn.functional as F

from cento_tiny import evaluate, heldout, model as network, reference, tokenizer as tokenization
from cento_tiny.sequences import TrainingBatches

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("data", "train", "evaluate", "reference")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--stages", default=",".join(STAGES), help="comma-separated: %(default)s")
    parser.add_argument("--model", type=Path, default=ROOT / "models/cento-tiny", help="the model's folder")
    parser.add_argument("--questions", type=Path, default=ROOT / "bench/qa/cento-tiny.json")
    parser.add_argument("--reference", type=Path, default=ROOT / "tests/vectors/cento_tiny_reference.json")
    parser.add_argument("--report", type=Path, help="write accuracy and failures here as JSON")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=9400)
    parser.add_argument("--minutes", type=float, default=14, help="upper bound of the training's wall clock")
    parser.add_argument("--rows", type=int, default=32, help="rows a step")
    parser.add_argument("--row-tokens", type=int, default=4096)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--warmup", type=int, default=300, help="steps")
    parser.add_argument("--evaluate-every", type=int, default=1000, help="steps; 0 for never")
    parser.add_argument("--evaluate-limit", type=int, help="questions of the final evaluation; all by default")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def make_data(args):
    args.model.mkdir(parents=True, exist_ok=True)
    tokenization.save(tokenization.train(args.seed), args.model)
    args.questions.parent.mkdir(parents=True, exist_ok=True)
    heldout.save(heldout.build(), args.questions)


def load_questions(args):
    return json.loads(args.questions.read_text(encoding="utf-8"))


def token_loss(hidden, head, targets, weights):
    """The weighted cross-entropy summed, and the sum over answers (weight 1 and more) alone."""
    losses = F.cross_entropy(F.linear(hidden, head).float().flatten(0, 1), targets.flatten().long(), ignore_index=-1,
                             reduction="none")
    weights = weights.flatten()
    return (losses * weights).sum(), (losses.detach() * (weights >= 1)).sum()


def make_optimizer(model, args):
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.dim() != 2 or "embed" in n]
    return torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
                             lr=args.learning_rate, betas=(0.9, 0.98), fused=args.device == "cuda")


def learning_rate(args, step, progress):
    warm = min(1.0, (step + 1) / args.warmup)
    return args.learning_rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def quick_scores(model, masks, args, questions, limit=800):
    parts = []
    for mode in ("exact", "independent"):
        batches = evaluate.EvaluationBatches(str(args.model / "tokenizer.json"), questions, mode, args.rows, args.row_tokens, limit)
        summary = evaluate.summarize(questions, evaluate.judge(model, masks, batches, min(4, args.workers)))
        parts.append(f"{mode} {summary['all']:.2f}")
    return ", ".join(parts)


def train(model, masks, args, questions):
    """Trains in place. Prints a line every 200 steps."""
    device, start = torch.device(args.device), time.monotonic()
    deadline, compiled = start + 60 * args.minutes, None  # the clock of the schedule starts after compilation
    batches = TrainingBatches(str(args.model / "tokenizer.json"), args.seed, args.rows, args.row_tokens, args.steps)
    loader = torch.utils.data.DataLoader(batches, batch_size=None, num_workers=args.workers, collate_fn=evaluate.identity,
                                         prefetch_factor=6 if args.workers else None)
    optimizer = make_optimizer(model, args)
    loss_of = torch.compile(token_loss) if device.type == "cuda" else token_loss
    recent, tokens_seen = torch.zeros(2, device=device), 0
    for step, arrays in enumerate(loader):
        if step == 2:
            compiled = time.monotonic()
        progress = max(step / args.steps, (time.monotonic() - compiled) / (deadline - compiled) if compiled else 0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(args, step, progress)
        batch = {name: torch.as_tensor(array).to(device, non_blocking=True) for name, array in arrays.items()}
        mask = masks(batch)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            hidden = model.hidden(batch["tokens"], batch["positions"], mask)
            loss, answer_loss = loss_of(hidden, model.model.embed_tokens.weight, batch["targets"], batch["weights"])
        (loss / batch["weights"].sum()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        recent += torch.stack((answer_loss, (batch["weights"] >= 1).sum()))
        tokens_seen += arrays["tokens"].size
        if step % 200 == 199 or step == 0:
            seconds = time.monotonic() - start
            print(f"step {step + 1} {seconds:.0f} s, {tokens_seen / 1e6:.0f} M tokens, progress {progress:.3f}, "
                  f"answer loss {recent[0].item() / recent[1].item():.5f}", flush=True)
            recent.zero_()
        if args.evaluate_every and step % args.evaluate_every == args.evaluate_every - 1:
            print(f"step {step + 1}: {quick_scores(model, masks, args, questions)}", flush=True)
        if progress >= 1:
            break
    print(f"trained: {step + 1} steps, {tokens_seen / 1e6:.0f} M tokens, {time.monotonic() - start:.0f} s", flush=True)


def export(model, args):
    from safetensors.torch import save_file
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    end, pad = (tokenizer.token_to_id(text) for text in ("<|im_end|>", "<|endoftext|>"))
    save_file(model.weights(), args.model / "model.safetensors", metadata={"format": "pt"})
    model.config.save(args.model / "config.json", end, pad)
    generation = {"do_sample": False, "eos_token_id": [end, pad], "pad_token_id": pad, "max_new_tokens": 64}
    (args.model / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")


def evaluate_released(model, masks, args, questions):
    """Accuracy of the exported weights, in bf16 arithmetic, by mode."""
    from safetensors.torch import load_file
    from tokenizers import Tokenizer
    model.load_state_dict(load_file(args.model / "model.safetensors", device=args.device))
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    summaries, wrong = {}, {}
    for mode in evaluate.MODES:
        batches = evaluate.EvaluationBatches(str(args.model / "tokenizer.json"), questions, mode, args.rows, args.row_tokens,
                                             args.evaluate_limit)
        verdicts = evaluate.judge(model, masks, batches, args.workers)
        summaries[mode] = evaluate.summarize(questions, verdicts)
        wrong[mode] = evaluate.failures(questions, verdicts, tokenizer)
    evaluate.print_table(summaries)
    for line in wrong["independent"][:25]:
        print(line)
    if args.report:
        args.report.write_text(json.dumps({"accuracy": summaries, "failures": wrong}, ensure_ascii=False, indent=1) + "\n")


def main():
    args = parse_arguments()
    stages = args.stages.split(",")
    if unknown := set(stages) - set(STAGES):
        sys.exit(f"unknown stage {', '.join(sorted(unknown))}: choose from {', '.join(STAGES)}")
    torch.manual_seed(args.seed)
    started = time.monotonic()
    if "data" in stages:
        make_data(args)
        print(f"data: {time.monotonic() - started:.0f} s", flush=True)
    questions = load_questions(args)
    model = network.CentoTiny(network.Config()).to(args.device)
    masks = network.Masks(args.rows, args.row_tokens, args.device)
    if args.device == "cuda":
        model.compile_layers()
    if "train" in stages:
        print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
        train(model, masks, args, questions)
        export(model, args)
    if "evaluate" in stages:
        evaluate_released(model, masks, args, questions)
    if "reference" in stages:
        args.reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write(args.model, questions, args.reference)


if __name__ == "__main__":
    main()
