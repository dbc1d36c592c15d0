#!/usr/bin/env python3
"""Makes the blocks and errors that quantize_test.cpp compares with: make.py LLAMA_QUANTIZE [FOLDER], with numpy and gguf
(0.19.0).

values.f32: 24 rows of 512 values. NAME.bin: their blocks as the gguf package makes them. errors.json: for types of 256
values a block, what llama-quantize leaves of each row: the root of the mean squared error, by that of the row itself.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

BY_PACKAGE = (Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1)
BY_TOOL = (Type.Q4_K, Type.Q5_K, Type.Q6_K)


def values():
    """As weights are: normal, with a few far out; some rows of other kinds."""
    random = np.random.default_rng(30)
    rows = random.standard_normal((24, 512)) * 0.03 * np.exp(random.standard_normal((24, 1)))
    rows[2:8] *= 1 + 8 * (random.random((6, 512)) < 0.01)
    rows[8] = np.abs(rows[8])
    rows[9] = -np.abs(rows[9])
    rows[10, 64:256] = 0
    rows[11] = random.laplace(0, 0.02, 512)
    rows[12] = random.integers(-8, 8, 512) * 0.125
    rows[13] = 1e-6 * rows[13]
    rows[14] = 1000 * rows[14]
    rows[15] = 0.5
    return rows.astype(np.float32)


def model(path, rows):
    """A model of one layer whose ffn_down is `rows`, 24 of them, and whatever else llama-quantize wants."""
    writer = gguf.GGUFWriter(path, "gemma3")
    d, ff = 256, 512
    writer.add_block_count(1)
    writer.add_context_length(512)
    writer.add_embedding_length(d)
    writer.add_feed_forward_length(ff)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_key_length(d)
    writer.add_value_length(d)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_sliding_window(512)
    names = ["<pad>", "<eos>", "<bos>", "<unk>"]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(names)
    writer.add_token_scores([0.0] * 4)
    writer.add_token_types([3] * 4)
    down = np.zeros((d, ff), np.float32)
    down[: len(rows)] = rows
    zeros = lambda *shape: np.full(shape, 0.01, np.float32)
    tensors = {"token_embd": zeros(4, d), "output_norm": zeros(d), "blk.0.ffn_down": down,
               "blk.0.ffn_up": zeros(ff, d), "blk.0.ffn_gate": zeros(ff, d)}
    tensors |= {f"blk.0.attn_{n}": zeros(d, d) for n in ("q", "k", "v", "output")}
    tensors |= {f"blk.0.{n}": zeros(d) for n in ("attn_norm", "attn_q_norm", "attn_k_norm", "post_attention_norm",
                                                  "ffn_norm", "post_ffw_norm")}
    for name, data in tensors.items():
        writer.add_tensor(name + ".weight", data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    tool = sys.argv[1]
    out = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else pathlib.Path(__file__).parent)
    rows = values()
    rows.tofile(out / "values.f32")
    for kind in BY_PACKAGE:
        gguf.quants.quantize(rows, kind).tofile(out / f"{kind.name}.bin")
    errors = {}
    with tempfile.TemporaryDirectory() as folder:
        source, made = f"{folder}/in.gguf", f"{folder}/out.gguf"
        model(source, rows)
        for kind in BY_TOOL:
            subprocess.run([tool, "--pure", source, made, kind.name], check=True, capture_output=True)
            tensor = next(t for t in gguf.GGUFReader(made).tensors if t.name == "blk.0.ffn_down.weight")
            assert tensor.tensor_type == kind, tensor.tensor_type
            got = gguf.quants.dequantize(tensor.data, kind)[: len(rows)]
            # Each row counts by its own size.
            error = np.sqrt(((got - rows) ** 2).mean(1)) / np.sqrt((rows.astype(np.float64) ** 2).mean(1))
            errors[kind.name] = [float(f"{e:.6g}") for e in error]
    (out / "errors.json").write_text(json.dumps(errors) + "\n")


if __name__ == "__main__":
    main()
