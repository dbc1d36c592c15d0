"""Conversations: on a pseudo-terminal as a person has them, and from a script."""

import json
import os
import signal
import stat
import termios
import time

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
        out, error = self.chat("/nonsense x\n/bye\n")
        self.assertIn("unknown command /nonsense", error)
        self.assertEqual(out, "")

    def test_a_slash_can_be_written(self):
        wanted = self.generate("--chat", "-p", "/help", "-n", "5", "--seed", "3")["text"].rstrip(
            "\n"
        )
        self.assertEqual(self.chat("//help\n")[0].rstrip("\n"), wanted)

    def test_what_does_not_fit(self):
        _, error = self.chat("word " * 100 + "\n", "-c", "50", code=5)
        self.assertIn("holds 50; -c takes up to", error)
        _, error = self.chat("hello\n" + "word " * 100 + "\n", "-c", "50", code=5)
        self.assertIn("holds 50; /undo takes the last turn back, /clear begins anew, and -c takes up to", error)

    def test_a_file_is_never_the_conversation_itself(self):
        self.chat("/read -\nhello\n", code=3)

    def test_system_is_shown_set_and_removed(self):
        _, error = self.chat("/system\n/system Be brief.\n/system\n/system clear\n/system\n")
        lines = [line for line in error.splitlines() if line.startswith("system: ")]
        self.assertEqual(lines[1], "system: Be brief.")
        self.assertIn("(none)", lines[0])
        self.assertIn("(none)", lines[2])
        kept, _ = self.chat("/system Be brief.\n/system\nhello\n")
        self.assertEqual(kept, self.chat("/system Be brief.\nhello\n")[0])
        self.assertEqual(
            self.chat('/system Be brief.\n/system ""\nhello\n')[0], self.chat("hello\n")[0]
        )

    def test_files_that_were_read_can_be_dropped(self):
        path = self.path("note.txt", "a note\n")
        wanted, _ = self.chat("hello\n")
        for drop in ("/read", "/undo", "/clear"):
            out, error = self.chat(f"/read {path}\n/tokens\n{drop}\nhello\n")
            self.assertEqual(out, wanted)
            self.assertIn("with the next message: 6 bytes", error)
        long = self.path("long.txt", "word " * 500)
        _, error = self.chat(f"/read {long}\nhello\n", "-c", "60", code=5)
        self.assertIn("60", error)

    def test_line_ends_and_marks_of_other_systems(self):
        out, error = self.chat(b"\xef\xbb\xbfhello\r\n/tokens\r\n/show  \n")
        self.assertEqual(out, self.chat("hello\n")[0])
        self.assertIn("by 1 turn", error)
        self.assertIn("top-k: 64", error)

    def test_stop_can_be_set(self):
        whole = self.generate("--chat", "-p", "hello", "-n", "9", "--seed", "3")["text"]
        stop = whole[3:6].strip() or whole[6:9]
        out, error = self.chat(f"/set max-tokens 9\n/set stop {stop}\n/show\nhello\n")
        self.assertNotIn(stop, out)
        self.assertIn("stop: ", error)
        self.assertEqual(self.chat(f"/set stop {stop}\n/set stop clear\nhello\n")[0], self.chat("hello\n")[0])

    def test_top_k_is_a_whole_number(self):
        _, error = self.chat("/set top-k 5.5\n/set seed -1\n/set seed 9007199254740993\n/show\n")
        self.assertIn("top-k: expected a whole number from 0 to 2147483647, found 5.5", error)
        self.assertIn("seed: 9007199254740993", error)

    def test_chats_differ_unless_told(self):
        jokes = {
            self.run_cli("chat", "-m", TINY, "-n", "12", input="hello\n").stdout for _ in range(3)
        }
        self.assertGreater(len(jokes), 1)

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
        self.assertIn("by 1 turn", self.say(terminal, "/tokens"))
        self.say(terminal, "/regen")
        self.assertIn("by 1 turn", self.say(terminal, "/tokens"))
        self.assertIn("0 turns left", self.say(terminal, "/undo"))
        self.assertIn("unknown command /nonsense", self.say(terminal, "/nonsense x"))
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
        self.assertIn("by 1 turn", self.say(terminal, "/tokens"))
        terminal.send("\x03")
        self.assertIn("Ctrl-C again", self.reply(terminal))
        terminal.send("\x03")
        self.assertEqual(terminal.finish(), 130)

    def test_only_two_in_a_row_on_an_empty_line_leave(self):
        terminal = self.chat("-n", "5")
        for typed, shown in (("text", "text"), ("", ""), ("more", "more"), ("", ""), ("z\x7f", "\x1b[K")):
            terminal.send(typed)
            if shown:
                terminal.expect(shown)  # A Ctrl-C would drop what has not been read yet.
            terminal.send("\x03")
            self.reply(terminal)
        self.assertIn("by 0 turns", self.say(terminal, "/tokens"))
        terminal.send("\x03")
        self.assertIn("Ctrl-C again", self.reply(terminal))
        terminal.send("\x03")
        self.assertEqual(terminal.finish(), 130)

    def test_a_text_of_several_lines_is_cleared_as_one(self):
        terminal = self.chat("-n", "5")
        terminal.send('"""one\r')
        terminal.expect("... ")
        terminal.send("\x03")
        self.reply(terminal)
        self.assertIn("by 0 turns", self.say(terminal, "/tokens"))

    def test_what_is_typed_meanwhile_is_the_next_line(self):
        terminal = self.chat("-c", "100000", *self.endless_chat())
        terminal.send("hello\r")
        terminal.expect("\n")
        while len(terminal.text) < 50:
            self.assertTrue(terminal.read(60))
        terminal.send("/tokens")
        terminal.send("\x03")
        reply = self.reply(terminal)
        self.assertNotIn("/tokens", reply)
        # Ctrl-C flushes what was typed before it.
        self.assertIn("by 1 turn", self.say(terminal, "/tokens"))

    def test_the_terminal_is_given_back_by_whoever_ends_it(self):
        for end in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            terminal = self.chat("-c", "100000", *self.endless_chat())
            terminal.send("hello\r")
            terminal.expect("\n")
            while len(terminal.text) < 50:
                self.assertTrue(terminal.read(60))
            self.assertFalse(termios.tcgetattr(terminal.file)[3] & termios.ECHO)
            os.kill(terminal.process, end)
            self.assertEqual(terminal.finish(), -end)
            self.assertTrue(termios.tcgetattr(terminal.file)[3] & termios.ECHO)

    def test_a_pipe_without_an_end_can_be_left(self):
        terminal = self.chat("-n", "5")
        pipe = self.path("pipe")
        os.mkfifo(pipe)
        terminal.send(f"/read {pipe}\r")
        terminal.expect("\n")
        time.sleep(0.3)  # Nobody opens it.
        terminal.send("\x03")
        self.assertIn("stopped while reading", self.reply(terminal))
        self.assertIn("by 0 turns", self.say(terminal, "/tokens"))

    def test_two_at_once_keep_their_lines(self):
        first, second = self.chat("-n", "2"), self.chat("-n", "2")
        self.say(first, "/nonsense one")
        self.say(second, "/nonsense two")
        self.say(first, "/nonsense three")
        for terminal in (first, second):
            terminal.send("\x04")
            self.assertEqual(terminal.finish(), 0)
        with open(self.history()) as file:
            lines = file.read().splitlines()
        self.assertEqual(lines[0], "_HiStOrY_V2_")
        self.assertEqual([line[-3:] for line in lines[1:]], ["one", "two", "ree"])

    def test_a_file_that_is_no_history_is_left_alone(self):
        os.makedirs(os.path.dirname(self.history()))
        with open(self.history(), "w") as file:
            file.write("a letter to my aunt\n")
        terminal = self.chat("-n", "2")
        self.say(terminal, "/nonsense")
        terminal.send("\x04")
        self.assertEqual(terminal.finish(), 0)
        with open(self.history()) as file:
            self.assertEqual(file.read(), "a letter to my aunt\n")

    def test_a_long_history_is_shortened(self):
        os.makedirs(os.path.dirname(self.history()))
        with open(self.history(), "w") as file:
            file.write("_HiStOrY_V2_\n" + "".join(f"line{i}\n" for i in range(3000)))
        terminal = self.chat("-n", "2")
        terminal.send("\x04")
        self.assertEqual(terminal.finish(), 0)
        with open(self.history()) as file:
            lines = file.read().splitlines()
        self.assertEqual((len(lines), lines[1], lines[-1]), (1001, "line2000", "line2999"))

    def test_a_history_that_is_a_link_stays_one(self):
        os.makedirs(os.path.dirname(self.history()))
        target = self.path("kept", "_HiStOrY_V2_\n" + "".join(f"line{i}\n" for i in range(3000)))
        os.symlink(target, self.history())
        terminal = self.chat("-n", "2")
        terminal.send("\x04")
        self.assertEqual(terminal.finish(), 0)
        self.assertTrue(os.path.islink(self.history()))
        with open(target) as file:
            self.assertEqual(len(file.read().splitlines()), 1001)

    def test_tab_completes_commands_and_files(self):
        self.path("note one.txt", "a note")
        terminal = self.chat("-n", "2")
        self.assertIn("unknown command /un;", self.say(terminal, "/un"))
        self.assertIn("0 of ", self.say(terminal, "/tok\t"))
        self.assertIn("6 bytes of ", self.say(terminal, "/read ~/no\t"))
        terminal.send("/s\t")
        terminal.expect("system  set  show")
        terminal.expect("/s")
        terminal.send("how\r")
        self.assertIn("top-k", self.reply(terminal))
        # Names that differ in the second byte of a letter.
        for name in ("b\u00e4.txt", "b\u00f6.txt"):
            self.path(name, "umlaut")
        terminal.send("/read ~/b\t\t")
        terminal.expect("b\u00e4.txt  b\u00f6.txt")
        terminal.expect("~/b")
        terminal.send("\u00f6\t\r")
        self.assertIn("6 bytes of ", self.reply(terminal))

    def test_backspace_takes_what_looks_like_one_character(self):
        terminal = self.chat("-n", "2")
        for one in ("\u4e16", "e\u0301", "\U0001f468\u200d\U0001f469\u200d\U0001f467",
                    "\U0001f44d\U0001f3fd", "\u2764\ufe0f", "\U0001f1e9\U0001f1ea"):
            self.assertIn("unknown command /ab;", self.say(terminal, "/a" + one + "\x7fb"), repr(one))

    def test_the_context_is_full(self):
        terminal = self.chat("-c", "40", *self.endless_chat())
        said = self.say(terminal, "hello")
        self.assertIn("the context is full: /undo", said)
        self.assertIn("-c takes up to", said)
        terminal = self.chat("-n", "3", *self.endless_chat())
        self.assertIn("cut off by max-tokens", self.say(terminal, "hello"))

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
        terminal.send("half a li")
        terminal.expect("half a li")
        terminal.send("\x03")
        self.assertNotIn("Ctrl-C again", self.reply(terminal))
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
        self.assertIn("by 1 turn", self.say(terminal, "/tokens"))
        wanted = len(
            self.generate("--chat", "-p", "one\ntwo\nthree", "-n", "5", "--seed", "3")["prompt_ids"]
        )
        self.assertIn(f"read {wanted} tokens", self.say(terminal, "/tokens"))

    def test_edit_offers_the_last_message(self):
        terminal = self.chat("-n", "5")
        self.say(terminal, "hello")
        self.say(terminal, "/edit")
        self.say(terminal, " there")
        # What both messages begin with was there, but for the hidden row of its last token.
        first, second = (
            self.generate("--chat", "-p", text, "-n", "5")["prompt_ids"] for text in ("hello", "hello there")
        )
        common = len(os.path.commonprefix([first, second]))
        self.assertIn(f"read {len(second) - common + 1} tokens", self.say(terminal, "/tokens"))

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
