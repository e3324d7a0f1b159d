#!/usr/bin/env python3
"""FlashInfer on the cases of `cento bench attention`, for the same GPU in the same run.

    cento bench attention --list-cases cases.json
    python3 bench/peers/flashinfer_attention.py cases.json --out flashinfer.json [--variants decode,cascade_fa2]

Reads the cases (sequences over shared runs, see bench/bench_attention.h), lays FlashInfer's page tables out with
the shared pages aliased, and times each wrapper that can express a case:

    decode            BatchDecodeWithPagedKVCacheWrapper, tensor cores, fa2: shares pages, not reads
    decode_cuda_cores the same without tensor cores, where fewer than 4 query heads share a KV head
    cascade           MultiLevelCascadeAttentionWrapper as shipped (its levels choose fa3 on Hopper)
    cascade_fa2       the same by hand, as fast as its parts allow: backend fa2 for each level, outputs allocated once
    batch_attention   BatchAttention, the persistent kernel
    prefill_fa2/_fa3  BatchPrefillWithPagedKVCacheWrapper over all rows, where a sequence has more than one
    decode_prefill    decode rows by the decode wrapper, the others by prefill fa3: two launches

A cascade needs the sets of sequences that see a run to be nested or disjoint (a tree); other cases say which runs
are not. Positions: the wrappers are run without RoPE. FlashInfer cannot rotate a query by another offset for each
run, so for compositions (S4) its number is for keys that stand at one position only; cento's includes the rotation.

Time: a CUDA graph of calls that cycle through the layers of a pool larger than L2, events around its replays, the
median; microseconds a call. plan() stands outside and is reported as plan_us. Each result is compared with f64
attention on some rows; a wrong one is an error and no time.

No kernel is compiled where `flashinfer/data/aot/` holds it: see flashinfer_ahead.py.
"""

import argparse
import json
import os
import statistics
import sys
import time

os.environ.setdefault("TVM_FFI_DISABLE_TORCH_C_DLPACK", "1")  # it would compile; graphs hide the slower way

import torch

POOL_BYTES = 160e6  # what the layers of a case hold together, at least: L2 is 50 MB
LAYERS_MAX = 1024
ONE_LAYER_BYTES = 1e9
GRAPH_US, CALLS_MIN = 2000.0, 2  # about as long, so that a graph's launch does not count
COPY_BYTES_US, FLOP_US, LAUNCH_US = 3.0e6, 3.0e8, 8.0  # roughly, to guess how long a call takes
TOLERANCE = 0.02  # of the row's largest value: P and the result are bf16
WORKSPACE_BYTES = 512 << 20
BATCH_ATTENTION_BYTES = 1536 << 20  # it allocates 384 MB itself, with which 32 KV heads are an error
BF16 = torch.bfloat16


class Inexpressible(Exception):
    """A wrapper has no way to say this case."""


# ---------------------------------------------------------------------------------------------- cases ----


class Case:
    """One case, its sequences expanded, with the page list of every run and of every sequence's own keys."""

    def __init__(self, about):
        self.name, self.family = about["name"], about["family"]
        self.heads, self.kv_heads, self.dim = about["heads"], about["kv_heads"], about["head_dim"]
        self.page = about["page_tokens"]
        tokens = {run["id"]: run["tokens"] for run in about["runs"]}
        self.pages, self.run_pages = 0, {}
        for run, count in tokens.items():
            self.run_pages[run] = self._take(count)
        self.sequences = []  # (runs, own pages, own tokens, rows)
        for entry in about["sequences"]:
            for _ in range(entry.get("count", 1)):
                own = entry["own_tokens"]
                self.sequences.append((tuple(entry["runs"]), self._take(own), own, entry["new_rows"]))
        for runs, _, _, _ in self.sequences:
            for run in runs:
                if tokens[run] % self.page:
                    raise ValueError(f"{self.name}: run {run} of {tokens[run]} tokens ends inside a page")
        seen = {run for runs, _, _, _ in self.sequences for run in runs}
        self.tokens = tokens
        unique = sum(tokens[run] for run in seen) + sum(own for _, _, own, _ in self.sequences)
        self.page_values = 2 * self.kv_heads * self.page * self.dim
        self.unique_bytes = unique * 2 * self.kv_heads * self.dim * 2
        self.layers = max(2, min(LAYERS_MAX, -(-int(POOL_BYTES) // self.unique_bytes)))
        if self.unique_bytes > ONE_LAYER_BYTES:
            self.layers = 1
        self.decode_only = all(rows == 1 for _, _, _, rows in self.sequences)

    def _take(self, tokens):
        first, count = self.pages, -(-tokens // self.page)
        self.pages += count
        return list(range(first, first + count))

    def rows(self):
        return sum(rows for _, _, _, rows in self.sequences)

    def flop(self):
        pairs = sum(sequence[3] * self.length(s) for s, sequence in enumerate(self.sequences))
        return 4.0 * pairs * self.heads * self.dim

    def length(self, sequence):
        runs, _, own, _ = self.sequences[sequence]
        return sum(self.tokens[run] for run in runs) + own

    def table(self, sequence):
        """All pages that a sequence sees."""
        runs, own_pages, _, _ = self.sequences[sequence]
        return [page for run in runs for page in self.run_pages[run]] + own_pages

    def last_page(self, tokens):
        return (tokens - 1) % self.page + 1 if tokens else 0

    def levels(self):
        """The order of the sequences and, widest first, each level's (first, end, pages, tokens) groups over that
        order; the last level is every sequence alone. Inexpressible where the sharing is no tree."""
        seen_by = {}
        for s, (runs, _, _, _) in enumerate(self.sequences):
            for run in runs:
                seen_by.setdefault(run, []).append(s)
        groups = {}  # who sees it: runs
        for run, who in seen_by.items():
            if len(who) > 1:
                groups.setdefault(frozenset(who), []).append(run)
        if not groups:
            raise Inexpressible("nothing is shared, so there is one level only")
        sets = sorted(groups, key=len, reverse=True)
        for i, wide in enumerate(sets):
            for narrow in sets[i + 1 :]:
                if wide & narrow and not narrow <= wide:
                    raise Inexpressible(
                        f"no tree: {len(wide)} sequences see run {groups[wide][0]}, {len(narrow)} see run "
                        f"{groups[narrow][0]}, {len(wide & narrow)} see both"
                    )
        depth = {who: sum(1 for other in sets if who < other) for who in sets}
        path = {s: [] for s in range(len(self.sequences))}
        for who in sets:  # widest first
            for s in who:
                path[s].append(min(who))
        order = sorted(path, key=lambda s: (path[s] + [s], s))
        place = {s: i for i, s in enumerate(order)}
        levels = []
        for level in range(max(depth.values()) + 1):
            parts, at = [], 0
            for who in sorted((w for w in sets if depth[w] == level), key=lambda w: min(place[s] for s in w)):
                first = min(place[s] for s in who)
                assert max(place[s] for s in who) - first == len(who) - 1
                if first > at:
                    parts.append((at, first, [], 0))
                at = first + len(who)
                runs = groups[who]
                parts.append(
                    (first, at, [p for run in runs for p in self.run_pages[run]], sum(self.tokens[r] for r in runs))
                )
            if at < len(order):
                parts.append((at, len(order), [], 0))
            levels.append(parts)
        alone = []
        for i, s in enumerate(order):
            runs, own_pages, own, _ = self.sequences[s]
            mine = [run for run in runs if len(seen_by[run]) == 1]
            pages = [p for run in mine for p in self.run_pages[run]] + own_pages
            alone.append((i, i + 1, pages, sum(self.tokens[r] for r in mine) + own))
        levels.append(alone)
        return order, levels


# ------------------------------------------------------------------------------------------- variants ----


def indices(values):
    return torch.tensor(values, dtype=torch.int32)


def offsets(counts):
    at, out = 0, [0]
    for count in counts:
        at += count
        out.append(at)
    return indices(out)


def tables(case, order):
    """qo_indptr, kv_indptr, kv_indices, last_page_len, lengths for the sequences in this order."""
    page_lists = [case.table(s) for s in order]
    lengths = [case.length(s) for s in order]
    return (
        offsets(case.sequences[s][3] for s in order),
        offsets(len(pages) for pages in page_lists),
        indices([p for pages in page_lists for p in pages]).cuda(),
        indices([case.last_page(n) for n in lengths]),
        indices(lengths),
    )


def attention_shape(case):
    return case.heads, case.kv_heads, case.dim, case.page


class Variants:
    """Each method plans and returns (order of the sequences, run(q, kv, out) -> result)."""

    names = ["decode", "decode_cuda_cores", "cascade", "cascade_fa2", "batch_attention", "prefill_fa2", "prefill_fa3"]
    names += ["decode_prefill"]

    def __init__(self):
        self.made = {}  # wrappers allocate pinned memory, which takes long; a new plan is all that a case needs
        self.workspace = torch.zeros(WORKSPACE_BYTES, dtype=torch.uint8, device="cuda")
        self.batch_attention_workspace = torch.zeros(BATCH_ATTENTION_BYTES, dtype=torch.uint8, device="cuda")
        self.workspace_beside = torch.zeros(WORKSPACE_BYTES, dtype=torch.uint8, device="cuda")

    def _once(self, key, make):
        if key not in self.made:
            self.made[key] = make()
        return self.made[key]

    def _decode(self, case, order, tensor_cores=True):
        from flashinfer.decode import BatchDecodeWithPagedKVCacheWrapper as Wrapper

        wrapper = self._once(
            ("decode", tensor_cores),
            lambda: Wrapper(self.workspace, "HND", use_tensor_cores=tensor_cores, backend="fa2"),
        )
        _, kv_indptr, kv_indices, last, _ = tables(case, order)
        plan = lambda: wrapper.plan(kv_indptr, kv_indices, last, *attention_shape(case), q_data_type=BF16)
        return plan, lambda q, kv, out: wrapper.run(q, kv, out=out)

    def decode(self, case, tensor_cores=True):
        if not case.decode_only:
            raise Inexpressible("a sequence has more than one row")
        order = list(range(len(case.sequences)))
        return order, *self._decode(case, order, tensor_cores)

    def decode_cuda_cores(self, case):
        if case.heads // case.kv_heads >= 4:
            raise Inexpressible("for fewer than 4 query heads on a KV head")
        return self.decode(case, tensor_cores=False)

    def _prefill(self, case, order, backend, workspace):
        from flashinfer.prefill import BatchPrefillWithPagedKVCacheWrapper as Wrapper

        key = ("prefill", backend, workspace.data_ptr())
        wrapper = self._once(key, lambda: Wrapper(workspace, "HND", backend=backend))
        qo, kv_indptr, kv_indices, last, _ = tables(case, order)
        plan = lambda: wrapper.plan(
            qo, kv_indptr, kv_indices, last, *attention_shape(case), causal=True, q_data_type=BF16
        )
        return plan, lambda q, kv, out: wrapper.run(q, kv, out=out)

    def _prefill_all(self, case, backend):
        if case.decode_only:
            raise Inexpressible("for cases in which a sequence has more than one row")
        order = list(range(len(case.sequences)))
        return order, *self._prefill(case, order, backend, self.workspace)

    def prefill_fa2(self, case):
        return self._prefill_all(case, "fa2")

    def prefill_fa3(self, case):
        return self._prefill_all(case, "fa3")

    def decode_prefill(self, case):
        long = [s for s, sequence in enumerate(case.sequences) if sequence[3] > 1]
        short = [s for s, sequence in enumerate(case.sequences) if sequence[3] == 1]
        if not long or not short:
            raise Inexpressible("for cases that mix decode and prefill rows")
        plan_short, run_short = self._decode(case, short)
        plan_long, run_long = self._prefill(case, long, "fa3", self.workspace_beside)
        cut = len(short)

        def plan():
            plan_short()
            plan_long()

        def run(q, kv, out):
            run_short(q[:cut], kv, out[:cut])
            run_long(q[cut:], kv, out[cut:])
            return out

        return short + long, plan, run

    def batch_attention(self, case):
        from flashinfer.attention import BatchAttention

        order = list(range(len(case.sequences)))
        wrapper = self._once("batch_attention", lambda: BatchAttention("HND", "cuda"))
        wrapper.float_workspace_buffer = self.batch_attention_workspace
        qo, kv_indptr, kv_indices, _, lengths = tables(case, order)
        heads, kv_heads, dim, page = attention_shape(case)
        plan = lambda: wrapper.plan(
            qo, kv_indptr, kv_indices, lengths, heads, kv_heads, dim, dim, page,
            causal=not case.decode_only, q_data_type=BF16, kv_data_type=BF16,
        )  # fmt: skip
        lse = torch.empty(case.rows(), heads, dtype=torch.float32, device="cuda")
        return order, plan, lambda q, kv, out: wrapper.run(q, kv, out=out, lse=lse)[0]

    def _cascade(self, case, backend):
        from flashinfer.cascade import MultiLevelCascadeAttentionWrapper, merge_state_in_place
        from flashinfer.prefill import BatchPrefillWithPagedKVCacheWrapper

        def make():
            wrapper = MultiLevelCascadeAttentionWrapper(len(levels), self.workspace, "HND")
            if backend is not None:  # what its constructor makes, but for the backend
                wrapper._batch_prefill_wrappers = [
                    BatchPrefillWithPagedKVCacheWrapper(self.workspace, "HND", backend=backend) for _ in levels
                ]
            return wrapper

        order, levels = case.levels()
        wrapper = self._once(("cascade", backend, len(levels)), make)
        row = [0]
        for s in order:
            row.append(row[-1] + case.sequences[s][3])
        qo = [indices([row[parts[0][0]]] + [row[end] for _, end, _, _ in parts]) for parts in levels]
        kv_indptr = [offsets(len(pages) for _, _, pages, _ in parts) for parts in levels]
        kv_indices = [indices([p for _, _, pages, _ in parts for p in pages]).cuda() for parts in levels]
        last = [indices([case.last_page(n) for _, _, _, n in parts]) for parts in levels]
        plan = lambda: wrapper.plan(
            qo, kv_indptr, kv_indices, last, *attention_shape(case), causal=not case.decode_only, q_data_type=BF16
        )
        if backend is None:
            return order, plan, lambda q, kv, out: wrapper.run(q, kv)
        first, *others = reversed(wrapper._batch_prefill_wrappers)
        sums = torch.empty(2, case.rows(), case.heads, dtype=torch.float32, device="cuda")
        beside = torch.empty(case.rows(), case.heads, case.dim, dtype=BF16, device="cuda")

        def run(q, kv, out):
            first.run(q, kv, out=out, lse=sums[0], return_lse=True)
            for level in others:
                level.run(q, kv, out=beside, lse=sums[1], return_lse=True)
                merge_state_in_place(out, sums[0], beside, sums[1])
            return out

        return order, plan, run

    def cascade(self, case):
        return self._cascade(case, None)

    def cascade_fa2(self, case):
        return self._cascade(case, "fa2")


# ------------------------------------------------------------------------------------------ measuring ----


def f64_row(case, sequence, row, head, q_row, kv):
    """One query head of one row of a sequence, in f64 on the device."""
    pages = torch.tensor(case.table(sequence), device="cuda")
    seen = case.length(sequence) - case.sequences[sequence][3] + row + 1
    kv_head = head // (case.heads // case.kv_heads)
    k = kv[pages, 0, kv_head].reshape(-1, case.dim)[:seen].double()
    v = kv[pages, 1, kv_head].reshape(-1, case.dim)[:seen].double()
    return torch.softmax(k @ q_row.double() * case.dim**-0.5, 0) @ v


def check(case, order, q, kv, result):
    """The largest error of some rows, relative to the largest value of the row; ValueError where it is wrong."""
    worst, first = 0.0, 0
    starts = {}
    for s in order:
        starts[s] = first
        first += case.sequences[s][3]
    picked = {order[0], order[len(order) // 2], order[-1], max(order, key=lambda s: case.sequences[s][3])}
    for s in picked:
        rows = case.sequences[s][3]
        for row, head in {(0, 0), (rows - 1, case.heads - 1), (rows // 2, case.heads // 2)}:
            at = starts[s] + row
            expected = f64_row(case, s, row, head, q[at, head], kv)
            found = result[at, head].double()
            error = ((found - expected).abs().max() / expected.abs().max()).item()
            if not error <= TOLERANCE:
                raise ValueError(
                    f"wrong: sequence {s} row {row} head {head}: {found[:4].tolist()} but f64 says "
                    f"{expected[:4].tolist()}"
                )
            worst = max(worst, error)
    return worst


def timed(function, repetitions):
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    samples = []
    for _ in range(repetitions):
        begin.record()
        function()
        end.record()
        end.synchronize()
        samples.append(begin.elapsed_time(end) * 1e3)
    return statistics.median(samples)


def measure(case, variants, name, pool, repetitions):
    """(microseconds a call, microseconds of plan, error)."""
    order, plan, run = getattr(variants, name)(case)
    plan()
    torch.cuda.synchronize()
    begin = time.perf_counter()
    plan()
    torch.cuda.synchronize()
    plan_us = (time.perf_counter() - begin) * 1e6
    layer_values = case.pages * case.page_values
    layers = [
        pool[layer * layer_values : (layer + 1) * layer_values].view(
            case.pages, 2, case.kv_heads, case.page, case.dim
        )
        for layer in range(case.layers)
    ]
    q = torch.rand(case.rows(), case.heads, case.dim, dtype=BF16, device="cuda") * 2 - 1
    out = torch.full_like(q, float("nan"))
    error = check(case, order, q, layers[0], run(q, layers[0], out))
    guess_us = max(case.unique_bytes / COPY_BYTES_US, case.flop() / FLOP_US) + LAUNCH_US
    calls = max(CALLS_MIN, int(GRAPH_US / guess_us))
    calls = -(-calls // case.layers) * case.layers
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            for call in range(calls):
                run(q, layers[call % case.layers], out)
        graph.replay()
        us = timed(graph.replay, repetitions) / calls
    torch.cuda.current_stream().wait_stream(stream)
    return us, plan_us, error


def copy_gb_s():
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    target.copy_(source)
    us = timed(lambda: target.copy_(source), 10)
    return 2 * source.numel() / us * 1e-3


def write(report, path):
    if path:
        with open(path, "w") as file:
            json.dump(report, file, indent=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cases", help="what `cento bench attention --list-cases` wrote")
    parser.add_argument("--out", help="JSON; default: standard output")
    parser.add_argument("--variants", default=",".join(Variants.names))
    parser.add_argument("--match", default="", help="only cases whose name contains one of these, comma-separated")
    parser.add_argument("--seconds", type=float, default=1e9, help="start no case after so long")
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--check-cases", action="store_true", help="only say what is expressible; needs no GPU")
    options = parser.parse_args()
    begin = time.perf_counter()
    with open(options.cases) as file:
        cases = [Case(about) for about in json.load(file)["cases"]]
    cases = [case for case in cases if any(part in case.name for part in options.match.split(","))]
    if options.check_cases:
        for case in cases:
            try:
                order, levels = case.levels()
                print(f"{case.name}: {len(levels)} levels of {[len(parts) for parts in levels]} groups")
            except Inexpressible as why:
                print(f"{case.name}: {why}")
        return 0
    from flashinfer.version import __version__ as version

    report = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "flashinfer": version,
        "copy_gb_s": round(copy_gb_s(), 1),
        "cases": [],
    }
    variants = Variants()
    pool_values = max(case.layers * case.pages * case.page_values for case in cases)
    pool = torch.empty(pool_values, dtype=BF16, device="cuda").uniform_(-1, 1)
    wrong = 0
    for case in cases:
        if time.perf_counter() - begin > options.seconds:
            report["left_out"] = len(cases) - len(report["cases"])
            break
        found = {"name": case.name, "family": case.family, "unique_bytes": case.unique_bytes, "us": {}, "plan_us": {}}
        found |= {"error": {}, "errors": {}}
        for name in options.variants.split(","):
            try:
                us, plan_us, error = measure(case, variants, name, pool, options.repetitions)
                found["us"][name] = round(us, 2)
                found["plan_us"][name] = round(plan_us)
                found["error"][name] = error
            except Inexpressible as why:
                found["errors"][name] = str(why)
            except Exception as problem:  # the other variants and cases are still worth having
                found["errors"][name] = f"{type(problem).__name__}: {problem}"[:500]
                wrong += 1
        report["cases"].append(found)
        times = "  ".join(f"{name} {us:.1f}" for name, us in found["us"].items())
        print(f"{case.name}: {times}", file=sys.stderr, flush=True)
        for name, why in found["errors"].items():
            if "Error" in why:
                print(f"  {name}: {why}", file=sys.stderr, flush=True)
        write(report, options.out)  # after each case: what is killed keeps what it has
    write(report, options.out)
    if not options.out:
        json.dump(report, sys.stdout, indent=1)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
