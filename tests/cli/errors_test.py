"""Bad input: one line that says what and where, and the documented exit code."""

import os
import struct
import unittest

from harness import TINY, Case, main


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


class ModelFiles(Case):
    def test_missing(self):
        self.fails(3, "nothere.gguf", "generate", "-m", self.path("nothere.gguf"), "-p", "x")

    def test_empty(self):
        self.fails(3, "empty.gguf", "generate", "-m", self.path("empty.gguf", ""), "-p", "x")

    def test_directory(self):
        self.fails(3, self.folder, "generate", "-m", self.folder, "-p", "x")
        self.fails(3, self.folder, "inspect", self.folder)

    def test_no_gguf(self):
        self.fails(
            3,
            "text.gguf",
            "inspect",
            self.path("text.gguf", "a text that is no model at all, but long enough"),
        )

    def test_other_architecture(self):
        header = (
            b"GGUF"
            + struct.pack("<IQQ", 3, 0, 1)
            + text("general.architecture")
            + struct.pack("<I", 8)
            + text("llama")
        )
        self.fails(
            3, "llama", "generate", "-m", self.path("llama.gguf", header + bytes(64)), "-p", "x"
        )

    def test_truncated(self):
        with open(TINY, "rb") as file:
            whole = file.read()
        for size in (4, 100, 5000, len(whole) // 2, len(whole) - 1):
            self.fails(
                3, "short.gguf", "generate", "-m", self.path("short.gguf", whole[:size]), "-p", "x"
            )

    def test_control_characters_in_a_name_stay_out_of_messages(self):
        done = self.run_cli("inspect", self.path("bad\x1b[2J\nname.gguf"))
        self.assertEqual(done.returncode, 3)
        self.assertNotIn(b"\x1b", done.stderr)
        self.assertEqual(done.stderr.count(b"\n"), 1)

    def test_memory_limit(self):
        self.fails(4, [], "generate", "-m", TINY, "-p", "x", "--memory-limit", "100K")
        self.fails(
            4, [], "generate", "-m", TINY, "-p", "x", "-c", "100000", "--memory-limit", "20M"
        )

    def test_model_folder(self):
        home = self.path("models")
        os.mkdir(home)
        self.fails(2, [home, "has none"], "generate", "-p", "x", env={"LAPIDARY_HOME": home})
        os.symlink(os.path.abspath(TINY), os.path.join(home, "one.gguf"))
        os.symlink(os.path.abspath(TINY), os.path.join(home, "mmproj-one.gguf"))
        self.ok("generate", "-p", "x", "-n", "2", env={"LAPIDARY_HOME": home})
        os.symlink(os.path.abspath(TINY), os.path.join(home, "two.gguf"))
        self.fails(2, "one.gguf, two.gguf", "generate", "-p", "x", env={"LAPIDARY_HOME": home})

    def test_model_folder_is_in_the_xdg_data_folder(self):
        os.makedirs(self.path(".local/share/lapidary"))
        os.symlink(os.path.abspath(TINY), self.path(".local/share/lapidary/m.gguf"))
        self.ok("inspect")
        os.makedirs(self.path("data/lapidary"))
        self.fails(
            2, self.path("data/lapidary"), "inspect", env={"XDG_DATA_HOME": self.path("data")}
        )


class Options(Case):
    def test_no_command(self):
        self.fails(2, "subcommand")
        self.fails(2, "quantise", "quantise")

    def test_unknown_option(self):
        self.fails(2, "--frobnicate", "generate", "-m", TINY, "-p", "x", "--frobnicate")

    def test_a_batch_has_no_draft_model(self):
        self.fails(
            2, ["no option --draft", "generate and chat"], "batch", "-m", TINY, "in", "-o", "out", "--draft", TINY
        )

    def test_out_of_range(self):
        for option, value in [
            ("--temp", "-1"),
            ("--kv", "int4"),
            ("--temp", "nan"),
            ("--temp", "warm"),
            ("--top-p", "1.5"),
            ("--top-k", "-1"),
            ("--top-k", "1.5"),
            ("--min-p", "2"),
            ("-t", "-1"),
            ("-c", "-5"),
            ("-n", "-2"),
            ("--seed", "-2"),
            ("--seed", "18446744073709551616"),
            ("--chunk", "0"),
            ("--repeat-penalty", "0"),
            ("--memory-limit", "-1"),
            ("--memory-limit", "5Q"),
            ("--memory-limit", "5KM"),
            ("--isa", "mmx"),
        ]:
            with self.subTest(option=option, value=value):
                self.fails(2, value, "generate", "-m", TINY, "-p", "x", option, value)

    def test_environment(self):
        self.fails(2, "hot", "generate", "-m", TINY, "-p", "x", env={"LAPIDARY_TEMP": "hot"})
        short = self.ok(
            "generate",
            "-p",
            "x",
            env={"LAPIDARY_MODEL": TINY, "LAPIDARY_MAX_TOKENS": "3", "LAPIDARY_SEED": "5"},
        )
        self.assertEqual(
            short, self.ok("generate", "-m", TINY, "-p", "x", "-n", "3", "--seed", "5")
        )
        # The command line wins, and what is meant for another command does no harm.
        self.assertEqual(
            short,
            self.ok(
                "generate",
                "-m",
                TINY,
                "-p",
                "x",
                "-n",
                "3",
                "--seed",
                "5",
                env={"LAPIDARY_SEED": "6", "LAPIDARY_BENCH_DECODE": "9", "LAPIDARY_DEPTH": "4"},
            ),
        )

    def test_config_file(self):
        config = self.path(
            "c.toml",
            'seed = 5\nmodel = "' + TINY + '"\n[generate]\nmax-tokens = 3\n[bench]\ndepth = 7\n',
        )
        wanted = self.ok("generate", "-m", TINY, "-p", "x", "-n", "3", "--seed", "5")
        self.assertEqual(wanted, self.ok("generate", "-p", "x", "--config", config))
        self.assertEqual(wanted, self.ok("--config", config, "generate", "-p", "x"))
        self.assertEqual(wanted, self.ok("generate", "-p", "x", env={"LAPIDARY_CONFIG": config}))
        self.fails(
            2, "colour", "generate", "-p", "x", "--config", self.path("d.toml", "colour = 5\n")
        )
        self.fails(3, "none.toml", "generate", "-p", "x", "--config", self.path("none.toml"))

    def test_help_and_version(self):
        self.assertIn("batch", self.ok("--help"))
        self.assertIn("--top-k", self.ok("generate", "--help"))
        self.assertRegex(self.ok("--version"), r"^lapidary \d+\.\d+")


class Prompts(Case):
    def test_empty(self):
        self.fails(2, "empty", "generate", "-m", TINY, "-p", "")
        self.fails(2, "empty", "generate", "-m", TINY, input="\n")
        self.fails(2, "empty", "generate", "-m", TINY, "-f", self.path("empty.txt", ""))

    def test_invalid_utf8(self):
        self.fails(2, ["UTF-8", "0xff", "offset 3"], "generate", "-m", TINY, input=b"abc\xffdef")
        self.fails(
            2,
            ["UTF-8", "offset 0"],
            "generate",
            "-m",
            TINY,
            "-f",
            self.path("bad", b"\xed\xa0\x80"),
        )
        self.fails(2, ["UTF-8", "offset 1"], "tokenize", "-m", TINY, input=b"a\xc3")

    def test_missing_file(self):
        self.fails(3, "none.txt", "generate", "-m", TINY, "-f", self.path("none.txt"))
        self.fails(3, self.folder, "generate", "-m", TINY, "-f", self.folder)

    def test_too_long(self):
        count = len(self.generate("-p", "word " * 40, "--no-chat", "-n", "1")["prompt_ids"])
        self.fails(
            5,
            [str(count), "20"],
            "generate",
            "-m",
            TINY,
            "--no-chat",
            "-p",
            "word " * 40,
            "-c",
            "20",
        )


class Ids(Case):
    def logits(self, content):
        return ["logits", "-m", TINY, "--ids", self.path("ids", content), "--out", self.path("out")]

    def test_bad_ids(self):
        for content, words in [
            (struct.pack("<3i", 2, 1763, 5), ["1763", "position 1"]),
            (struct.pack("<2i", 2, -1), ["-1"]),
            (struct.pack("<2i", 2, 2**31 - 1), ["2147483647"]),
            (b"\2\0\0\0\1", ["5 bytes"]),
            (b"", ["empty"]),
        ]:
            with self.subTest(content=content):
                self.fails(3, ["ids", *words], *self.logits(content))
                self.assertFalse(os.path.exists(self.path("out")))

    def test_files(self):
        self.fails(
            3, "none", "logits", "-m", TINY, "--ids", self.path("none"), "--out", self.path("out")
        )
        self.fails(
            3,
            "no/out",
            "logits",
            "-m",
            TINY,
            "--ids",
            self.path("ids", struct.pack("<i", 2)),
            "--out",
            self.path("no/out"),
        )

    def test_too_many(self):
        self.fails(5, ["9", "8"], *self.logits(struct.pack("<9i", *[2] * 9)), "-c", "8")

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full")
    def test_full_disk(self):
        self.fails(
            1,
            ["/dev/full", "No space"],
            "logits",
            "-m",
            TINY,
            "--ids",
            self.path("ids", struct.pack("<i", 2)),
            "--out",
            "/dev/full",
        )


if __name__ == "__main__":
    main()
