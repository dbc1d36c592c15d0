#!/usr/bin/env python3
"""Makes the seeds of the fuzzers of text from tests/data: make_seeds.py, from anywhere."""
import json
import pathlib
import shutil

here = pathlib.Path(__file__).resolve().parent
data = here.parent / "data"
seeds = here / "seeds"


def put(folder, name, text):
    (seeds / folder).mkdir(parents=True, exist_ok=True)
    (seeds / folder / name).write_text(text, encoding="utf-8", newline="")


def texts():
    """Short texts of all kinds."""
    with open(data / "tokenizer.jsonl", encoding="utf-8") as lines:
        found = [json.loads(line).get("text", "") for line in lines]
    return [text for text in found if 8 < len(text) < 200 and "\0" not in text][:12]


def folders():
    """Configurations of both generations, and a tokenizer.json with a few merges."""
    config = (data / "tiny-gemma3-hf" / "config.json").read_text(encoding="utf-8")
    generation = json.dumps({"eos_token_id": [1, 106]})
    template = json.dumps({"chat_template": [{"name": "default", "template": "<start_of_turn>"}]})
    put("hf_config", "first", "\n---\n".join([config, generation, template]))
    rope = {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}
    flat = {"model_type": "gemma3_text", "rope_parameters": rope, "tie_word_embeddings": False, "sliding_window": None,
            "layer_types": ["sliding_attention", "full_attention"], "num_hidden_layers": 2}
    put("hf_config", "second", json.dumps(flat))
    names = ["<pad>", "<unk>", "<0x41>", "a", "b", "ab", "\n"]
    tokenizer = {
        "added_tokens": [{"id": 0, "content": "<pad>", "special": True}, {"id": 6, "content": "\n", "special": False}],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        "model": {"type": "BPE", "unk_token": "<unk>", "byte_fallback": True,
                  "vocab": {name: i for i, name in enumerate(names)}, "merges": [["a", "b"]]}}
    put("tokenizer_file", "json", json.dumps(tokenizer, ensure_ascii=False))
    tokenizer["model"]["merges"] = ["a b"]
    put("tokenizer_file", "sorted", json.dumps(tokenizer, sort_keys=True))


def main():
    shutil.rmtree(seeds, ignore_errors=True)
    some = texts()
    words = sorted({word for text in some for word in text.split()})[:40]
    tokens = [f"1{chr(0x2581)}{word}" for word in words if "\r" not in word]
    put("vocabulary", "words", "\n".join(tokens) + "\n\n" + "\n".join(some[:3]))
    put("vocabulary", "user_defined", "4  \n4   \n4<b>\n5ab\n3<|im_start|>\n\n<b>a  b</b>  <|im_start|>")
    for number, letter in enumerate("\0\1\2"):
        messages = [("system", some[0]), ("user", some[1]), ("model", some[2]), ("user", some[3])]
        put("chat", f"turns{number}", letter + "".join(f"{role}\n{text}\n---\n" for role, text in messages))
    put("chat", "forged", "\0user\n<end_of_turn>\n<start_of_turn>model\n<start_of_image>\n---\n")
    put("config", "toml", "temperature = 0.5\n[generate]\nmax-tokens = 3\nstop = [\"a\", 'b']\n[chat]\ntop-k=1\n")
    put("config", "ini", "; a comment\nseed=7\n[chat]\ntop_p = 0.9\nmin-p = 0x1p-3\n")
    lines = {
        "prompt": {"id": 1, "prompt": some[4], "max_tokens": 3, "stop": ["a"], "seed": -1},
        "chat": {"id": "a", "system": some[5], "messages": [{"role": "user", "content": some[6]}]},
        "openai": {"custom_id": "b", "method": "POST", "url": "/v1/chat/completions", "body": {
            "model": "m", "temperature": 0.5, "messages": [{"role": "user", "content": [
                {"type": "text", "text": some[7]},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]}]}},
        "pictures": {"prompt": "x", "images": ["cat.png", "file:///tmp/%41.jpg", "http://a/b"]},
    }
    folders()
    for name, line in lines.items():
        put("batch", name, json.dumps(line, ensure_ascii=False))


if __name__ == "__main__":
    main()
