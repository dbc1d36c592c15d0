#!/usr/bin/env python3
"""Draws what tests/benchmark measured against the machine's limits: roofline.py [--isa ISA] REPORT PICTURE.

REPORT is kernels_benchmark's JSON (--benchmark_out=REPORT --benchmark_out_format=json); of repetitions the fastest counts.
PICTURE's ending says what it becomes: .svg or .png. Prints the shares as a table in Markdown. Needs matplotlib.
"""

import argparse
import json
import math
import re
import sys

# What is drawn; more would hide each other.
COLOURS = {"Q4_0": "#1f77b4", "Q5_0": "#2ca02c", "Q8_0": "#d62728", "Q4_K": "#9467bd", "Q6_K": "#ff7f0e", "BF16": "#777777",
           "attention": "#111111", "bfp_matmul": "#bcbd22"}
NUMBERED = "Q4_0"
# Kernel, packing and width of activations. Other widths of matrices are not drawn.
NAME = re.compile(r"(?P<kernel>\w+)/(?P<isa>\w+)(?:/(?P<form>[A-Z]\w*)/(?P<bits>\w+))?/(?:tokens|rows):(?P<tokens>\d+)")


def fail(message):
    sys.exit(f"roofline.py: {message}")


def read_report(path):
    """The context, and each benchmark's fastest repetition by name."""
    try:
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
        fastest = {}
        for run in report["benchmarks"]:
            if run.get("run_type") == "aggregate":
                continue
            name = run["run_name"]
            if name not in fastest or run["cpu_time"] < fastest[name]["cpu_time"]:
                fastest[name] = run
        return report["context"], fastest
    except (OSError, ValueError, KeyError) as error:
        return fail(f"{path} is no report of kernels_benchmark in JSON: {error!r}")


def limits_of(context, isa):
    """Bytes and operations a second."""
    names = {"memory": "peak_memory", "cache": "peak_cache", "int8": f"peak_int8_{isa}", "fp32": f"peak_fp32_{isa}"}
    try:
        return {short: float(context[name]) for short, name in names.items()}
    except KeyError as error:
        return fail(f"the report lacks {error}; is {isa} an instruction set that ran?")


def best_isa(runs):
    measured = {match["isa"] for name in runs if (match := NAME.fullmatch(name))}
    return next((isa for isa in ("avx512", "avxvnni", "avx2", "sse41", "neon") if isa in measured), "scalar")


def curves_of(runs, isa):
    """For each kernel, packing and width of activations: (tokens, operations per byte, Gop/s), by tokens."""
    curves = {}
    for name, run in runs.items():
        match = NAME.fullmatch(name)
        if match and match["isa"] == isa:
            key = match["kernel"], match["form"] or match["kernel"], match["bits"] or ""
            curves.setdefault(key, []).append(
                (int(match["tokens"]), run["operations_per_byte"], run["operations_per_second"] / 1e9))
    return {key: sorted(points) for key, points in curves.items()}


def draw_roofs(axes, limits):
    """Each bandwidth up to the int8 peak, and each peak from where the cache can feed it."""
    left, right = axes.get_xlim()
    (x0, y0), (x1, y1) = axes.transData.transform([(1, 10), (10, 100)])
    line = {"color": "#444444", "linewidth": 1.3}
    text = {"textcoords": "offset points", "fontsize": 8}
    for name, style in (("memory", "-"), ("cache", ":")):
        rate = limits[name] / 1e9
        axes.plot([left, limits["int8"] / limits[name]], [left * rate, limits["int8"] / 1e9], style, **line)
        axes.annotate(f"{name}: {rate:.0f} GB/s", (left * 1.15, left * 1.15 * rate), xytext=(0, 5),
                      rotation=math.degrees(math.atan2(y1 - y0, x1 - x0)), rotation_mode="anchor", **text)
    for name, above in (("int8", 4), ("fp32", -11)):
        rate = limits[name] / 1e9
        axes.plot([limits[name] / limits["cache"], right], [rate, rate], "-", **line)
        axes.annotate(f"{name}: {rate:.0f} Gop/s", (right, rate), xytext=(-4, above), ha="right", **text)


def draw_curve(axes, key, points):
    kernel, form, _ = key
    x, y = [p[1] for p in points], [p[2] for p in points]
    if kernel == "stream":
        axes.plot(x, y, "v", color=COLOURS[form], markersize=8, markeredgecolor="white")
        return
    marker = {"attention": "s", "bfp_matmul": "D"}.get(kernel, "o")
    label = {"bfp_matmul": "block floating point"}.get(kernel, form)
    axes.plot(x, y, "-", color=COLOURS[form], linewidth=0.9, marker=marker, markersize=5, label=label)


def draw_panel(axes, title, limits, curves):
    draw_roofs(axes, limits)
    for key, points in sorted(curves.items()):
        if key[1] in COLOURS:
            draw_curve(axes, key, points)
    for (kernel, form, _), points in curves.items():
        if (kernel, form) == ("matmul", NUMBERED):
            for tokens, x, y in points:
                if tokens != 4:  # In the thick of things; it lies between 2 and 8.
                    axes.annotate(str(tokens), (x, y), xytext=(0, 6), textcoords="offset points", ha="center",
                                  fontsize=8, color=COLOURS[form], weight="bold")
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("operations per byte of weights")
    axes.grid(True, which="major", color="#e5e5e5", linewidth=0.6)
    axes.set_axisbelow(True)


def draw(plt, limits, curves, picture):
    """Two panels side by side: 16-bit activations lie on the right."""
    figure, panels = plt.subplots(1, 2, figsize=(12, 5.4), sharey=True, layout="constrained")
    for axes in panels:
        axes.set(xscale="log", yscale="log", xlim=(0.5, 8000), ylim=(6, 1.6 * limits["int8"] / 1e9))
        axes.set_title(" ", fontsize=10), axes.set_xlabel(" ")
    panels[0].set_ylabel("Gop/s, one thread")
    figure.canvas.draw()  # Lays out, so that the roofs' angle is known.
    narrow, wide = panels
    draw_panel(narrow, "8-bit activations, and fp32", limits, {k: v for k, v in curves.items() if k[2] != "16bit"})
    draw_panel(wide, "16-bit activations", limits, {k: v for k, v in curves.items() if k[2] == "16bit"})
    handles = narrow.get_legend_handles_labels()[0]
    handles += plt.plot([], [], "v", color="#666666", label="a token, weights from memory")
    wide.legend(handles=handles, loc="lower right", fontsize=8, ncols=2, framealpha=1,
                title=f"weights in cache; tokens are marked for {NUMBERED}", title_fontsize=8)
    try:
        figure.savefig(picture, dpi=110, metadata={"Date": None} if picture.endswith(".svg") else None)
    except (OSError, ValueError) as error:
        fail(f"{picture} cannot be written: {error}")


def print_table(runs, isa):
    """Percent of the limit, packings down and tokens across."""
    rows = {}
    for name, run in runs.items():
        match = NAME.fullmatch(name)
        if match and match["isa"] == isa:
            row = match["form"] or match["kernel"], match["bits"] or {"bfp_matmul": "bfp"}.get(match["kernel"], "fp32")
            column = "memory" if match["kernel"] == "stream" else match["tokens"]
            rows.setdefault(row, {})[column] = f"{run['percent_of_peak']:.0f} %"
    columns = ["memory", "1", "2", "4", "8", "64", "512"]
    print("| kernel | activations | " + " | ".join(columns) + " |\n" + "|---" * (len(columns) + 2) + "|")
    for (form, bits), cells in sorted(rows.items(), key=lambda row: (row[0][0], len(row[0][1]))):
        print(f"| {form} | {bits} | " + " | ".join(cells.get(column, "") for column in columns) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--isa", help="the instruction set to draw; else the best in the report")
    parser.add_argument("report")
    parser.add_argument("picture")
    options = parser.parse_args()
    try:
        import matplotlib
        matplotlib.use("Agg")
        # Text stays text, which is small; the same report gives the same bytes.
        matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "lapidary"})
        import matplotlib.pyplot as plt
    except ImportError:
        fail("matplotlib is missing; install python3-matplotlib (apt, dnf) or `pip install matplotlib`")
    context, runs = read_report(options.report)
    isa = options.isa or best_isa(runs)
    curves = curves_of(runs, isa)
    if not curves:
        fail(f"{options.report} has no products of {isa}")
    draw(plt, limits_of(context, isa), curves, options.picture)
    print_table(runs, isa)


if __name__ == "__main__":
    main()
