#!/usr/bin/env python3
"""Folders as transformers itself writes them, against what transformers computes: hf_export_test.py LAPIDARY DATA.

Runs where LAPIDARY_TEST_TRANSFORMERS names a virtual environment that has transformers (5) and torch; else it is skipped,
with exit code 77.
"""
import copy
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

SKIPPED = 77
VOCABULARY = "tokenizer.model"


def skip(why):
    print(f"skipped: {why}")
    sys.exit(SKIPPED)


def enter_environment():
    """Goes on in the interpreter of the environment that is named."""
    environment = os.environ.get("LAPIDARY_TEST_TRANSFORMERS")
    if not environment:
        skip("LAPIDARY_TEST_TRANSFORMERS names no virtual environment with transformers and torch")
    python = pathlib.Path(environment) / "bin" / "python"
    if not python.exists():
        skip(f"{python} is not there")
    if pathlib.Path(sys.prefix).resolve() != pathlib.Path(environment).resolve():
        os.execv(python, [str(python), "-B", *sys.argv])
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        skip(f"{environment}: {error}")


def text_config(**changes):
    from transformers import Gemma3TextConfig

    values = dict(vocab_size=1763, hidden_size=64, intermediate_size=128, num_hidden_layers=7, num_attention_heads=4,
                  num_key_value_heads=2, head_dim=32, sliding_window=16, query_pre_attn_scalar=24,
                  max_position_embeddings=4096, attn_implementation="eager")
    return Gemma3TextConfig(**(values | changes))


def make_weights(model):
    """Weights large enough that logits differ, and norms that are not all the same."""
    import torch

    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            spread = 0.3 if "norm" in name else 0.08
            weight.copy_(torch.randn(weight.shape, generator=generator) * spread)
            if "layer_norm" in name and name.endswith("weight") or "post_layernorm.weight" in name:
                weight.add_(1)
    model.tie_weights()


def text_model(**changes):
    from transformers import Gemma3ForCausalLM

    return Gemma3ForCausalLM(text_config(**changes))


def vision_model(**changes):
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, SiglipVisionConfig

    vision = SiglipVisionConfig(hidden_size=72, intermediate_size=144, num_hidden_layers=2, num_attention_heads=4,
                                image_size=896, patch_size=14, vision_use_head=False)
    config = Gemma3Config(text_config=text_config(**changes), vision_config=vision, mm_tokens_per_image=256,
                          image_token_index=1762, boi_token_index=1760, eoi_token_index=1761)
    return Gemma3ForConditionalGeneration(config)


LINEAR = {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
          "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}
LAYERS = ["full_attention", "sliding_attention", "sliding_attention", "full_attention", "sliding_attention",
          "sliding_attention", "sliding_attention"]
# What is made, the type it is saved in, and the bytes of a shard.
CASES = {
    "tied": (lambda: text_model(), "bfloat16", "5GB"),
    "untied": (lambda: text_model(tie_word_embeddings=False), "bfloat16", "5GB"),
    "one id more": (lambda: text_model(vocab_size=262145), "bfloat16", "5GB"),
    "padded ids": (lambda: text_model(vocab_size=262208, num_hidden_layers=2), "float16", "5GB"),
    "layer types": (lambda: text_model(layer_types=LAYERS), "bfloat16", "5GB"),
    "many shards": (lambda: text_model(rope_parameters=LINEAR), "bfloat16", "200KB"),
    "fp32": (lambda: text_model(), "float32", "5GB"),
    "vision": (lambda: vision_model(vocab_size=262208, num_hidden_layers=2), "bfloat16", "5GB"),
    "vision in shards": (lambda: vision_model(rope_parameters=LINEAR), "bfloat16", "300KB"),
}


def expected_logits(model, ids):
    import torch

    model = copy.deepcopy(model).float().eval()
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0].float().numpy()


def expected_features(model, pixels):
    """[256, width] of a view, 3 x 896 x 896 from -1 to 1."""
    import torch

    model = copy.deepcopy(model).float().eval()
    with torch.no_grad():
        found = model.model.get_image_features(torch.tensor(pixels[None]))
    found = found.pooler_output if hasattr(found, "pooler_output") else found
    found = found[0] if isinstance(found, (list, tuple)) else found
    return found.reshape(256, -1).float().numpy()


def run(lapidary, *words):
    done = subprocess.run([lapidary, *map(str, words)], capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"{words}: {done.stderr}")
    return done.stdout


def check_pictures(lapidary, data, folder, model, work):
    import numpy
    from PIL import Image

    picture = data / "vision" / "images" / "tiny_5x3.png"
    run(lapidary, "encode-image", "-m", folder, "--image", picture, "--out", work / "features.f32", "--save-inputs",
        work / "inputs")
    view = next((work / "inputs").iterdir())
    pixels = (numpy.asarray(Image.open(view), dtype=numpy.float32) / 255 - 0.5) / 0.5
    expected = expected_features(model, pixels.transpose(2, 0, 1).copy())
    found = numpy.fromfile(work / "features.f32", dtype=numpy.float32).reshape(expected.shape)
    error = numpy.linalg.norm(found - expected) / numpy.linalg.norm(expected)
    assert error < 0.005, f"features differ by {error:.4f}"
    return f", features within {error:.5f}"


def check(name, lapidary, data, work):
    import numpy
    import torch

    make, dtype, shard = CASES[name]
    model = make()
    make_weights(model)
    model = model.to(getattr(torch, dtype))
    folder = work / "model"
    model.save_pretrained(folder, max_shard_size=shard)
    shutil.copy(data / "tiny-gemma3-hf" / VOCABULARY, folder)
    shards = len(list(folder.glob("*.safetensors")))
    assert (shards > 1) == (shard != "5GB"), f"{shards} shards"
    ids = numpy.random.default_rng(1).integers(263, 1700, 64).astype(numpy.int32)
    ids[0] = 2
    ids.tofile(work / "ids.i32")
    expected = expected_logits(model, ids.tolist())
    run(lapidary, "logits", "-m", folder, "--ids", work / "ids.i32", "--out", work / "logits.f32")
    found = numpy.fromfile(work / "logits.f32", dtype=numpy.float32).reshape(len(ids), -1)
    assert found.shape == expected.shape, f"{found.shape}, expected {expected.shape}"
    error = numpy.linalg.norm(found - expected) / numpy.linalg.norm(expected)
    # bf16 products of fp32 activations; fp32 weights are rounded as well.
    assert error < (0.02 if dtype == "float32" else 0.01), f"logits differ by {error:.4f}"
    text = f"{name}: {shards} shard{'s' * (shards > 1)}, {found.shape[1]} ids, logits within {error:.5f}"
    if "vision" in name:
        text += check_pictures(lapidary, data, folder, model, work)
    info = json.loads(run(lapidary, "inspect", folder, "--json"))
    unused = [line for line in info["warnings"] if "not used" in line]
    assert not unused, unused
    print(text, flush=True)


def check_tokenizer(lapidary, data, work):
    """The tokenizer.json that transformers makes of tokenizer.model gives the ids that it gives transformers, and with the
    real vocabulary those of the golden data. (With the tiny one tokenizer.model itself gives others: it lacks the parts that
    some of its tokens are merged of.)"""
    from transformers import AutoTokenizer

    def exported(name, write):
        source, folder = work / f"{name}-source", work / name
        source.mkdir()
        write(source / VOCABULARY)
        shutil.copy(data / "tiny-gemma3-hf" / "config.json", source)
        tokenizer = AutoTokenizer.from_pretrained(source)
        tokenizer.save_pretrained(folder)
        assert (folder / "tokenizer.json").exists() and not (folder / VOCABULARY).exists(), list(folder.iterdir())
        return tokenizer, folder

    def ids_of(folder, texts):
        return [json.loads(line) for line in run(lapidary, "tokenize", "-m", folder, "--jsonl", texts).splitlines()]

    tokenizer, folder = exported("tiny", lambda to: shutil.copy(data / "tiny-gemma3-hf" / VOCABULARY, to))
    lines = (data / "tokenizer.jsonl").read_text(encoding="utf-8").splitlines()
    # A text that names a token is that token to transformers, and text here. Of more spaces than a token has SentencePiece
    # takes as many as it can from the left, transformers merges them in pairs.
    texts = [line for line in lines if "<" not in line and " " * 32 not in line]
    (work / "texts.jsonl").write_text("\n".join(texts), encoding="utf-8")
    for line, found in zip(texts, ids_of(folder, work / "texts.jsonl"), strict=True):
        text = json.loads(line)["text"]
        expected = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert found == expected, (text, found, expected)
    print(f"tokenizer.json: {len(texts)} texts", flush=True)
    real = os.environ.get("LAPIDARY_TEST_MODEL")
    if not real:
        return
    sys.path.insert(0, str(pathlib.Path(__file__).parent / "cli"))
    from folders import Vocabulary

    _, folder = exported("real", Vocabulary(real).write_model)
    found = ids_of(folder, data / "tokenizer.jsonl")
    for line, ids in zip(lines, found, strict=True):
        want = json.loads(line)
        assert ids == want["ids"], (want["text"], ids, want["ids"])
    print(f"tokenizer.json of the real vocabulary: {len(lines)} texts", flush=True)


def main():
    enter_environment()
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    lapidary, data = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2]).resolve()
    names = sys.argv[3:] or [*CASES, "tokenizer"]
    failed = 0
    for name in names:
        with tempfile.TemporaryDirectory() as work:
            try:
                if name == "tokenizer":
                    check_tokenizer(lapidary, data, pathlib.Path(work))
                else:
                    check(name, lapidary, data, pathlib.Path(work))
            except AssertionError as error:
                failed += 1
                print(f"{name}: FAILED: {error}", flush=True)
    print(f"transformers {transformers.__version__}: {len(names) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
