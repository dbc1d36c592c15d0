"""Conversations: on a pseudo-terminal as a person has them, and from a script."""

import json
import os
import stat

from harness import TINY, Case, Terminal, main

PROMPT = ">>> "
READY = "\x1b[?2004h"  # What is printed in front of a prompt, and not when the line is drawn again.


class Script(Case):
    def chat(self, lines, *options, code=0):
        done = self.run_cli("chat", "-m", TINY, "-n", "5", "--seed", "3", *options, input=lines)
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")

    def test_lines_are_turns(self):
        out, error = self.chat("hello\n")
        self.assertEqual(
            out.rstrip("\n"),
            self.generate("--chat", "-p", "hello", "-n", "5", "--seed", "3")["text"].rstrip("\n"),
        )
        self.assertIn("base model", error)
        self.assertNotIn(PROMPT, out + error)
        both, _ = self.chat("hello\nmore")
        self.assertTrue(both.startswith(out) and len(both) > len(out), (out, both))

    def test_the_cache_is_kept_between_turns(self):
        _, error = self.chat("word word word word word word word word\nmore\n")
        read = [int(line.split()[1]) for line in error.splitlines() if line.startswith("[read")]
        template = "<end_of_turn>\n<start_of_turn>user\nmore<end_of_turn>\n<start_of_turn>model\n"
        self.assertEqual(
            read[1], len(json.loads(self.ok("tokenize", "-m", TINY, "--parse-control", template)))
        )

    def test_undo_and_clear_change_what_the_model_sees(self):
        first, _ = self.chat("hello\n")
        for rewind in ("/undo", "/clear"):
            out, _ = self.chat(f"hello\n{rewind}\nhello\n")
            self.assertEqual(out, first * 2)

    def test_regen_draws_differently_and_edit_replaces(self):
        out, _ = self.chat("hello\n/regen\n", "-n", "12")
        wanted = [
            self.generate("--chat", "-p", "hello", "-n", "12", "--seed", seed)["text"]
            for seed in ("3", "4")
        ]
        self.assertEqual(out.replace("\n", ""), "".join(wanted).replace("\n", ""))
        out, _ = self.chat("hello\n/edit other words\n")
        wanted = [
            self.generate("--chat", "-p", text, "-n", "5", "--seed", "3")["text"]
            for text in ("hello", "other words")
        ]
        self.assertEqual(out.replace("\n", ""), "".join(wanted).replace("\n", ""))

    def test_messages_of_several_lines(self):
        wanted = self.generate("--chat", "-p", "one\ntwo", "-n", "5", "--seed", "3")["text"].rstrip(
            "\n"
        )
        for lines in ('"""one\ntwo"""\n', "one\\\ntwo\n"):
            self.assertEqual(self.chat(lines)[0].rstrip("\n"), wanted)

    def test_read_and_system(self):
        path = self.path("note.txt", "a note")
        wanted = self.generate("--chat", "-p", "a note\n\nhello", "-n", "5", "--seed", "3")[
            "text"
        ].rstrip("\n")
        self.assertEqual(self.chat(f"/read {path}\nhello\n")[0].rstrip("\n"), wanted)
        self.assertEqual(
            self.chat("/system a note\nhello\n")[0], self.chat("hello\n", "--system", "a note")[0]
        )
        self.assertNotEqual(self.chat("/system a note\nhello\n")[1], self.chat("hello\n")[1])
        self.chat(f"/read {self.path('none.txt')}\n", code=3)

    def test_commands(self):
        _, error = self.chat(
            "/help\n/show\n/tokens\n/set temp 0.5\n/set temp hot\n/set colour 5\n/undo\n/exit\nnever read\n"
        )
        for words in (
            "/regen",
            "top-k: 64",
            "0 of ",
            "temp is 0.5",
            "found hot",
            "max-tokens",
            "nothing has been said",
        ):
            self.assertIn(words, error)
        for name in ("/save", "/load", "/nonsense"):
            out, error = self.chat(f"{name} x\n/bye\n")
            self.assertIn(f"unknown command {name}", error)
            self.assertEqual(out, "")

    def test_a_slash_can_be_written(self):
        wanted = self.generate("--chat", "-p", "/help", "-n", "5", "--seed", "3")["text"].rstrip(
            "\n"
        )
        self.assertEqual(self.chat("//help\n")[0].rstrip("\n"), wanted)

    def test_what_does_not_fit(self):
        _, error = self.chat("word " * 100 + "\n", "-c", "50", code=5)
        self.assertIn("50", error)

    def test_set_changes_the_reply(self):
        out, _ = self.chat("/set seed 4\n/set max-tokens 9\nhello\n")
        self.assertEqual(
            out.rstrip("\n"),
            self.generate("--chat", "-p", "hello", "-n", "9", "--seed", "4")["text"].rstrip("\n"),
        )


class OnATerminal(Case):
    def chat(self, *options):
        terminal = Terminal(self, "chat", "-m", TINY, "--seed", "3", *options)
        terminal.expect(PROMPT)
        return terminal

    def say(self, terminal, text):
        terminal.send(text + "\r")
        return self.reply(terminal)

    def reply(self, terminal):
        """What is printed until the next prompt."""
        before = terminal.expect(READY)
        terminal.expect(PROMPT)
        return before

    def history(self):
        return self.path(".local/state/lapidary/history")

    def test_a_conversation(self):
        terminal = self.chat("-n", "5")
        self.assertIn("5 at ", self.say(terminal, "hello"))
        self.assertIn("by 1 turns", self.say(terminal, "/tokens"))
        self.say(terminal, "/regen")
        self.assertIn("by 1 turns", self.say(terminal, "/tokens"))
        self.assertIn("0 remain", self.say(terminal, "/undo"))
        self.assertIn("unknown command /save", self.say(terminal, "/save x"))
        terminal.send("/exit\r")
        self.assertEqual(terminal.finish(), 0)

    def test_ctrl_d_leaves(self):
        terminal = self.chat()
        terminal.send("\x04")
        self.assertEqual(terminal.finish(), 0)

    def test_ctrl_c_stops_the_reply_and_a_second_one_leaves(self):
        terminal = self.chat("-c", "100000", *self.endless_chat())
        terminal.send("hello\r")
        terminal.expect("\n")
        while len(terminal.text) < 50:
            self.assertTrue(terminal.read(60))
        terminal.send("\x03")
        self.assertIn("cancelled", self.reply(terminal))
        # What it had said is in the conversation.
        self.assertIn("by 1 turns", self.say(terminal, "/tokens"))
        terminal.send("\x03")
        self.assertIn("Ctrl-C again", self.reply(terminal))
        terminal.send("\x03")
        self.assertEqual(terminal.finish(), 130)

    def test_the_second_ctrl_c_may_follow_at_once(self):
        terminal = self.chat("-c", "100000", *self.endless_chat())
        terminal.send("hello\r")
        terminal.expect("\n")
        while len(terminal.text) < 50:
            self.assertTrue(terminal.read(60))
        terminal.send("\x03")
        self.reply(terminal)
        terminal.send("\x03")
        self.assertEqual(terminal.finish(), 130)

    def endless_chat(self):
        for seed in range(50):
            options = ["--top-k", "3", "--seed", str(seed)]
            if (
                self.generate("--chat", "-p", "hello", *options, "-n", "600")["finish_reason"]
                == "length"
            ):
                return options
        self.fail("every one of 50 seeds meets a stop id within 600 tokens")

    def test_a_line_can_be_emptied(self):
        terminal = self.chat("-n", "5")
        terminal.send("half a li\x03")
        self.assertIn("Ctrl-C again", self.reply(terminal))
        self.assertIn("by 0 turns", self.say(terminal, "/tokens"))

    def test_keys_edit_the_line(self):
        terminal = self.chat("-n", "5")
        # Left twice, a letter in between, an umlaut taken back, and the beginning of the line.
        self.assertIn(
            "unknown command /abcd;", self.say(terminal, "abd\x1b[D" + "cä\x7f" + "\x01/")
        )

    def test_a_paste_is_one_message(self):
        terminal = self.chat("-n", "5")
        terminal.send("\x1b[200~one\ntwo\nthree\x1b[201~")
        self.say(terminal, "")
        self.assertIn("by 1 turns", self.say(terminal, "/tokens"))
        wanted = len(
            self.generate("--chat", "-p", "one\ntwo\nthree", "-n", "5", "--seed", "3")["prompt_ids"]
        )
        self.assertIn(f"read {wanted} tokens", self.say(terminal, "/tokens"))

    def test_edit_offers_the_last_message(self):
        terminal = self.chat("-n", "5")
        self.say(terminal, "hello")
        self.say(terminal, "/edit")
        self.say(terminal, " there")
        wanted = len(self.generate("--chat", "-p", "hello there", "-n", "5")["prompt_ids"])
        self.assertIn(f"read {wanted} tokens", self.say(terminal, "/tokens"))

    def test_history_is_private_and_comes_back(self):
        terminal = self.chat("-n", "2")
        self.say(terminal, "/nonsense one")
        self.assertEqual(stat.S_IMODE(os.stat(self.history()).st_mode), 0o600)
        os.chmod(self.history(), 0o644)
        terminal.send("\x04")
        self.assertEqual(terminal.finish(), 0)
        again = self.chat("-n", "2")
        self.assertEqual(stat.S_IMODE(os.stat(self.history()).st_mode), 0o600)
        self.assertIn("unknown command /nonsense", self.say(again, "\x1b[A"))


if __name__ == "__main__":
    main()
