#!/usr/bin/env python3
"""cento's attention beside FlashInfer's, from two reports of one run on one GPU, as Markdown.

    cento bench attention --device cuda --json > cento.json
    cento bench attention --list-cases cases.json
    python3 bench/peers/flashinfer_attention.py cases.json --out flashinfer.json
    python3 bench/peers/table.py --ours cento.json --peers flashinfer.json [--write docs/performance.md]

Several files may be given on either side: parts of the grid. --write replaces what stands between the lines
BEGIN and END of the file. Ratios are its time over cento's, so above 1 in
cento's favour; means are geometric, over the cases that both sides measured; "fastest" is the fastest of FlashInfer's variants in each case. Needs only Python.
"""
import argparse
import json
import math
import pathlib
import sys

BEGIN, END = "<!-- bench/peers/table.py: begin -->", "<!-- bench/peers/table.py: end -->"
VARIANTS = ["decode", "cascade", "cascade_fa2", "batch_attention", "prefill_fa2", "prefill_fa3", "decode_prefill"]
WHAT = {
    "S1": "one prefix for all",
    "S2": "system prompt and documents",
    "S3": "trees of three levels",
    "S4": "compositions, random order",
    "S5": "nothing or little shared",
    "S6": "decoding beside a prefill",
    "P": "a prefill alone",
}


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def read(paths):
    """Cases by name; and what the reports say beside them, which must be about one kind of device."""
    about, cases = {}, {}
    for path in paths:
        report = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        for case in report["cases"]:
            if case["name"] in cases:
                raise ValueError(f"{path}: {case['name']} was in a file before")
            cases[case["name"]] = case
        about.setdefault("copy_gb_s", []).append(report["copy_gb_s"])
        for key in ("device", "kv_dtype", "flashinfer", "torch"):
            if key in report and about.setdefault(key, report[key]) != report[key]:
                raise ValueError(f"{path}: {key} is {report[key]!r}, {about[key]!r} in a file before")
    return about, cases


def peer_times(case):
    return {name: us for name, us in case.get("us", {}).items() if us}


def ratios(ours, peers, variant):
    """(ratio, name) of the cases of a family that both sides have; variant None: the fastest."""
    found = []
    for name, case in ours.items():
        times = peer_times(peers.get(name, {}))
        us = times.get(variant) if variant else min(times.values(), default=None)
        if us:
            found.append((us / case["us"], name))
    return found


def mean_and_least(pairs):
    if not pairs:
        return ["—", "—"]
    least, name = min(pairs)
    return [f"{geometric_mean([ratio for ratio, _ in pairs]):.2f}", f"{least:.2f} ({name})"]


def table(rows, heading):
    lines = ["| " + " | ".join(heading) + " |", "|" + "---|" * len(heading)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def family_table(ours, peers):
    used = [v for v in VARIANTS if any(v in peer_times(peers.get(name, {})) for name in ours)]
    heading = ["", "cases", "against no sharing", *(f"against {v}" for v in used), "against the fastest", "least"]
    rows = []
    for family in WHAT:
        part = {name: case for name, case in ours.items() if case["family"] == family}
        if not part:
            continue
        unshared = [case["speedup_vs_unshared"] for case in part.values() if "speedup_vs_unshared" in case]
        both = sum(1 for name in part if peer_times(peers.get(name, {})))
        row = [f"{family}: {WHAT[family]}", f"{len(part)}" + ("" if both == len(part) else f", {both} by both")]
        row.append(f"{geometric_mean(unshared):.2f}" if unshared else "—")
        row += [mean_and_least(ratios(part, peers, variant))[0] for variant in used]
        rows.append(row + mean_and_least(ratios(part, peers, None)))
    return table(rows, heading)


def shared_rows(case):
    """Rows that meet one KV head's keys of the widest shared run."""
    group = case["heads"] // case["kv_heads"]
    return group if case["family"] == "S5" else case["rows"] * group


def bandwidth_table(ours):
    sizes = [("64 MB and more, under 128 rows", 64e6, math.inf, 128), ("16 to 64 MB, under 128 rows", 16e6, 64e6, 128),
             ("64 MB and more, 128 rows and more", 64e6, math.inf, None)]
    rows = []
    for label, least, most, under in sizes:
        part = [
            (case["share_of_copy"], name)
            for name, case in ours.items()
            if case["family"] not in ("S6", "P")
            and least <= case["unique_bytes"] < most
            and (shared_rows(case) < 128) == (under is not None)
        ]
        if part:
            rows.append([label, str(len(part)), *(text if i else f"{100 * float(text):.0f} %"
                         for i, text in enumerate(mean_and_least(part)))])
    return table(rows, ["distinct keys and values", "cases", "of the copy's bandwidth", "least"])


def case_table(ours, peers, names):
    used = [v for v in VARIANTS if any(v in peer_times(peers.get(name, {})) for name in names)]
    rows = []
    for name in names:
        case, times = ours[name], peer_times(peers.get(name, {}))
        unshared = case.get("us_unshared")
        row = [name, f"{case['unique_bytes'] / 1e6:.0f}", f"{case['floor_us']:.1f}", f"{case['us']:.1f}"]
        row += [f"{100 * case['share_of_copy']:.0f} %", f"{unshared:.1f}" if unshared else "—"]
        row += [f"{times[v]:.1f}" if v in times else "—" for v in used]
        rows.append(row + [f"{case['tflop_s']:.0f}"])
    return table(rows, ["case", "distinct MB", "floor µs", "cento µs", "of the copy", "unshared", *used, "TFLOP/s"])


def shown_cases(ours, wanted):
    return [name for name in ours if any(name.startswith(word) for word in wanted.split(","))]


def write_document(ours_about, ours, peers_about, peers, details):
    copies = ours_about["copy_gb_s"] + peers_about.get("copy_gb_s", [])
    lines = [f"{ours_about['device']}, KV in {ours_about.get('kv_dtype', 'bf16')}; device copy {min(copies):.0f} to "
             f"{max(copies):.0f} GB/s. " + (f"FlashInfer {peers_about.get('flashinfer', '?')}." if peers else "")]
    lines += ["", *family_table(ours, peers), "", *bandwidth_table(ours)]
    names = shown_cases(ours, details)
    if names:
        lines += ["", *case_table(ours, peers, names)]
    return "\n".join(lines) + "\n"


def replace_between(path, text):
    old = path.read_text(encoding="utf-8")
    begin, end = old.find(BEGIN), old.find(END)
    if begin < 0 or end < begin:
        raise ValueError(f"{path}: the lines {BEGIN} and {END} are not there")
    path.write_text(old[: begin + len(BEGIN)] + "\n\n" + text + "\n" + old[end:], encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--ours", nargs="+", required=True, metavar="FILE", help="cento bench attention --json")
    parser.add_argument("--peers", nargs="*", default=[], metavar="FILE", help="flashinfer_attention.py --out")
    parser.add_argument("--details", default="S4,S5,S6,P", metavar="NAMES",
                        help="cases whose names begin so get a line each (default: S4,S5,S6,P; '' for none)")
    parser.add_argument("--write", type=pathlib.Path, metavar="FILE", help="replace the table in this file")
    arguments = parser.parse_args()
    if arguments.details == "":
        arguments.details = "\0"
    try:
        text = write_document(*read(arguments.ours), *read(arguments.peers), arguments.details)
        if arguments.write:
            replace_between(arguments.write, text)
        else:
            print(text, end="")
    except (OSError, ValueError, KeyError) as problem:
        print(f"table.py: {problem!r}" if isinstance(problem, KeyError) else f"table.py: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
