#!/usr/bin/env python3
"""What a change gained: compare.py BEFORE AFTER, two reports of kernels_benchmark in JSON.

Of repetitions the fastest counts, for what disturbs a measurement only ever slows it down. Prints operations a second and
their ratio for each benchmark in both, and the geometric mean of the ratios; then how the machine's own peaks, measured at
the start of each report, differ. "~": noise, for the repetitions of one report or the peaks differ more than the rates do.
"""

import json
import math
import re
import sys


def read(path):
    """Gop/s of each repetition, the fastest first, by name; and the machine's peaks."""
    with open(path, encoding="utf-8") as file:
        report = json.load(file)
    rates = {}
    for run in report["benchmarks"]:
        if run.get("run_type") != "aggregate":
            rates.setdefault(run["run_name"], []).append(run["operations_per_second"] / 1e9)
    peaks = {name: float(value) for name, value in report["context"].items() if name.startswith("peak_")}
    return {name: sorted(found, reverse=True) for name, found in rates.items()}, peaks


def spread(rates):
    """How far the better half of the repetitions lie apart, as a ratio."""
    return rates[0] / rates[len(rates) // 2] if len(rates) > 1 else math.inf


def numbers_apart(name):
    """For sorting: 8 before 16."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name)]


def main():
    if len(sys.argv) != 3:
        sys.exit(f"expected {sys.argv[0]} BEFORE AFTER")
    try:
        (before, old_peaks), (after, new_peaks) = read(sys.argv[1]), read(sys.argv[2])
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"compare.py: not two reports of kernels_benchmark in JSON: {error!r}")
    names = sorted(before.keys() & after.keys(), key=numbers_apart)
    if not names:
        sys.exit("compare.py: the reports have no benchmark in common")
    machine = {name: new_peaks[name] / old_peaks[name] for name in old_peaks.keys() & new_peaks.keys()}
    drift = {kind: abs(math.log(machine.get(f"peak_{kind}", 1.0))) for kind in ("memory", "cache")}
    width = max(map(len, names))
    logs = []
    for name in names:
        old, new = before[name], after[name]
        ratio = new[0] / old[0]
        logs.append(math.log(ratio))
        moved = drift["memory" if name.startswith("stream/") else "cache"]
        noisy = max(spread(old), spread(new), math.exp(moved)) > max(ratio, 1 / ratio)
        print(f"{name:{width}} {old[0]:8.2f} {new[0]:8.2f} Gop/s  ×{ratio:.3f}{' ~' if noisy else ''}")
    print(f"{'geometric mean':{width}} {'':23}  ×{math.exp(sum(logs) / len(logs)):.3f}")
    print("the machine: " + ", ".join(f"{name[len('peak_'):]} ×{ratio:.3f}" for name, ratio in sorted(machine.items())))


if __name__ == "__main__":
    main()
