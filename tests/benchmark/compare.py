#!/usr/bin/env python3
"""What a change gained: compare.py BEFORE AFTER, two reports of kernels_benchmark in JSON.

Of repetitions the fastest counts, for what disturbs a measurement only ever slows it down. Prints operations a second and
their ratio for each benchmark in both, and the geometric mean of the ratios. "~": the repetitions of one report differ
more among themselves than the two reports do.
"""

import json
import math
import re
import sys


def read(path):
    """Gop/s of each repetition, the fastest first, by name."""
    with open(path, encoding="utf-8") as file:
        runs = json.load(file)["benchmarks"]
    rates = {}
    for run in runs:
        if run.get("run_type") != "aggregate":
            rates.setdefault(run["run_name"], []).append(run["operations_per_second"] / 1e9)
    return {name: sorted(found, reverse=True) for name, found in rates.items()}


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
        before, after = read(sys.argv[1]), read(sys.argv[2])
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"compare.py: not two reports of kernels_benchmark in JSON: {error!r}")
    names = sorted(before.keys() & after.keys(), key=numbers_apart)
    if not names:
        sys.exit("compare.py: the reports have no benchmark in common")
    width = max(map(len, names))
    logs = []
    for name in names:
        old, new = before[name], after[name]
        ratio = new[0] / old[0]
        logs.append(math.log(ratio))
        noisy = max(spread(old), spread(new)) > max(ratio, 1 / ratio)
        print(f"{name:{width}} {old[0]:8.2f} {new[0]:8.2f} Gop/s  ×{ratio:.3f}{' ~' if noisy else ''}")
    print(f"{'geometric mean':{width}} {'':23}  ×{math.exp(sum(logs) / len(logs)):.3f}")


if __name__ == "__main__":
    main()
