"""Keeps the micro-benchmarks alive: kernels_benchmark_test.py KERNELS_BENCHMARK ROOFLINE.

One quick run of some benchmarks of every kernel; what it reports must be what docs/HACKING.md promises, and what
tools/roofline.py draws from. The figures themselves are not judged: they are for a quiet machine.
"""

import json
import math
import pathlib
import subprocess
import sys
import tempfile

FILTER = r"tokens:[14]$|rows:4$|columns:2560$|columns:2048$|^screen"
KERNELS = {"matmul", "stream", "attention", "bfp_matmul", "rmsnorm", "quantize", "gelu_mul", "screen_panel", "screen_row",
           "screen_two_bit_row"}
FORMS = {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "Q2_K", "Q3_K", "IQ1_S",
         "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "TQ1_0", "TQ2_0", "MXFP4", "Q8Split", "Q8Top",
         "Q8Top5", "Q6Split", "Q6Top", "BF16", "F16"}
COUNTERS = ("bytes_per_second", "operations_per_second", "operations_per_byte", "percent_of_peak")


def check(report):
    context, runs = report["context"], report["benchmarks"]
    tables = {name[len("peak_int8_"):] for name in context if name.startswith("peak_int8_")}
    assert "scalar" in tables, context
    for peak in ["peak_memory", "peak_cache"] + [f"peak_{kind}_{isa}" for kind in ("int8", "fp32") for isa in tables]:
        assert float(context[peak]) > 0, peak
    for run in runs:
        for counter in COUNTERS:
            assert math.isfinite(run[counter]) and run[counter] > 0, (run["name"], counter, run.get(counter))
        assert run["label"] in ("of int8", "of fp32", "of memory"), run
    names = [run["name"].split("/") for run in runs]
    assert {(name[0], name[1]) for name in names} == {(kernel, isa) for kernel in KERNELS for isa in tables}, names
    for kernel in ("matmul", "stream"):
        assert {name[2] for name in names if name[0] == kernel} == FORMS, kernel


def draw(roofline, report, picture):
    """Draws, or says what is missing."""
    done = subprocess.run([sys.executable, roofline, report, picture], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        assert "</svg>" in picture.read_text(encoding="utf-8")
        assert "| Q4_0 | 8bit |" in done.stdout, done.stdout
    else:
        assert done.stderr.startswith("roofline.py: matplotlib is missing") and done.stderr.count("\n") == 1, done.stderr


def compare(report):
    """A report gains nothing over itself."""
    script = pathlib.Path(__file__).parent / "compare.py"
    done = subprocess.run([sys.executable, script, report, report], capture_output=True, text=True, check=True)
    assert "geometric mean" in done.stdout and "×1.000" in done.stdout.splitlines()[-2], done.stdout


def main():
    benchmark, roofline = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.json"
        subprocess.run([benchmark, f"--benchmark_filter={FILTER}", "--benchmark_min_time=0.001",
                        f"--benchmark_out={report}", "--benchmark_out_format=json"], check=True, stdout=subprocess.DEVNULL)
        check(json.loads(report.read_text(encoding="utf-8")))
        compare(report)
        draw(roofline, report, pathlib.Path(folder) / "picture.svg")


if __name__ == "__main__":
    main()
