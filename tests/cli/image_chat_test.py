"""Conversations with pictures: from a script, and on a pseudo-terminal."""

import shutil
from shlex import quote

from harness import TINY, Case, Terminal, main
from pictures import FIRST_IN_TURN, MMPROJ, OTHER, SMALL, WIDE, Pictures


class ChatScript(Pictures):
    def chat(self, lines, *options, code=0):
        done = self.run_cli(
            *("chat", *self.model, "-n", "5", "--seed", "3", *options), input=lines
        )
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")

    def read(self, error):
        return [int(line.split()[1]) for line in error.splitlines() if line.startswith("[read")]

    def wanted(self, *options):
        got = self.answer("--chat", "-n", "5", "--seed", "3", *options)
        return got["text"].rstrip("\n"), len(got["prompt_ids"])

    def test_pictures_of_the_first_message(self):
        text, count = self.wanted("-p", "hello", "--image", SMALL, "--image", OTHER)
        out, error = self.chat("hello\n", "--image", SMALL, "--image", OTHER)
        self.assertEqual((out.rstrip("\n"), self.read(error)), (text, [count]))
        out, error = self.chat(f"/image {quote(SMALL)} {quote(OTHER)}\nhello\n")
        self.assertEqual((out.rstrip("\n"), self.read(error)), (text, [count]))
        self.assertIn("tiny_5x3.png: 5 x 3 pixels, 1 view, 260 tokens", error)
        out, error = self.chat(f"/image {quote(SMALL)}\n/image {quote(OTHER)}\nhello\n")
        self.assertEqual((out.rstrip("\n"), self.read(error)), (text, [count]))

    def test_only_what_is_new_is_read(self):
        _, error = self.chat(f"hello\n/image {quote(SMALL)}\nlook\nmore\n")
        first, second, third = self.read(error)
        _, plain = self.chat("hello\nlook\nmore\n")
        counts = self.read(plain)
        self.assertEqual((first, third), (counts[0], counts[2]))
        self.assertEqual(second, counts[1] + FIRST_IN_TURN)

    def test_the_picture_counts_not_its_tokens_alone(self):
        one, _ = self.chat(f"/image {quote(OTHER)}\nhello\n", "-n", "20")
        both, error = self.chat(f"/image {quote(SMALL)}\nhello\n/undo\n/image {quote(OTHER)}\nhello\n", "-n", "20")
        self.assertTrue(both.endswith(one), (both, one))
        self.assertEqual(len(set(self.read(error))), 1)

    def test_undo_clear_regen_and_edit(self):
        text, count = self.wanted("-p", "hello", "--image", SMALL)
        _, plain = self.wanted("-p", "hello")
        first = f"/image {quote(SMALL)}\nhello\n"
        for line in ("/undo", "/clear"):
            _, error = self.chat(f"{first}{line}\nhello\n")
            self.assertEqual(self.read(error), [count, plain])
        _, error = self.chat(f"{first}/regen\n/regen\n")
        self.assertEqual(self.read(error), [count, 0, 0])  # What was computed before is there.
        _, error = self.chat(f"{first}/edit hello\n")
        self.assertEqual(self.read(error), [count, 0])
        _, error = self.chat(f"{first}/edit\nhello\n")
        self.assertEqual(self.read(error), [count, 0])
        # Pictures that wait: dropped by hand or with the conversation.
        for line in ("/image", "/clear"):
            _, error = self.chat(f"/image {quote(SMALL)}\n{line}\nhello\n")
            self.assertEqual(self.read(error), [plain])
        out, error = self.chat(f"{first}/system Be brief.\nmore\n")
        self.assertGreater(self.read(error)[1], count)

    def test_names(self):
        name = shutil.copy(SMALL, self.path("a 'b' c.png"))
        quoted = f'"{name}"'
        escaped = name.replace(" ", "\\ ").replace("'", "\\'")
        for line in (name, quoted, escaped):
            _, error = self.chat(f"/image {line}\n/tokens\n")
            self.assertIn("with the next message: " + name, error)

    def test_what_is_told(self):
        _, error = self.chat(f"/help\n/image {quote(SMALL)}\nhello\n/show\n/image {quote(WIDE)}\n/tokens\n")
        for words in (
            "/image [FILE...]",
            "vision: " + MMPROJ,
            "256 of them by pictures",
            "with the next message: " + WIDE,
        ):
            self.assertIn(words, error)

    def test_errors(self):
        self.chat(f"/image {self.path('none.png')}\n", code=3)
        self.chat(f"/image {quote(SMALL)} {quote(SMALL)}\nhello\n", "-c", "400", code=5)
        done = self.run_cli("chat", *self.model, "--image", self.path("none.png"))
        self.assertEqual((done.returncode, done.stdout), (3, b""))


class ChatOnATerminal(Case):
    PROMPT, READY = ">>> ", "\x1b[?2004h"

    def chat(self, *options):
        terminal = Terminal(
            self, "chat", "-m", TINY, "--mmproj", MMPROJ, "-n", "5", "--seed", "3", *options
        )
        terminal.expect(self.PROMPT)
        return terminal

    def say(self, terminal, text):
        terminal.send(text + "\r")
        return self.reply(terminal)

    def reply(self, terminal):
        before = terminal.expect(self.READY)
        terminal.expect(self.PROMPT)
        return before

    def test_a_conversation(self):
        terminal = self.chat()
        self.assertIn("cannot be opened", self.say(terminal, "/image none.png"))
        self.assertIn("by 0 turns", self.say(terminal, "/tokens"))
        # One that is bad: none of them waits.
        text = self.path("text.png", "no picture")
        self.assertIn("text.png", self.say(terminal, f"/image {quote(SMALL)} {quote(text)}"))
        self.assertNotIn("next message", self.say(terminal, "/tokens"))
        self.assertIn("1 view, 260 tokens", self.say(terminal, f"/image {quote(SMALL)}"))
        self.assertIn("5 at ", self.say(terminal, "hello"))
        # A file that is dragged into the terminal.
        spaced = shutil.copy(SMALL, self.path("my picture.png"))
        for pasted in (f"'{spaced}'", spaced.replace(" ", "\\ "), spaced, "file://" + spaced):
            terminal.send(pasted + "\r")
            terminal.expect("attach it as a picture? [Y/n] ")
            self.assertIn("1 view, 260 tokens", self.say(terminal, "y"))
        for pasted in ("file://" + spaced.replace(" ", "%20"), f"'{spaced}' {SMALL} "):
            terminal.send(pasted + "\r")
            terminal.expect("? [Y/n] ")
            self.assertIn("1 view, 260 tokens", self.say(terminal, "y"))
        self.say(terminal, "/image")
        told = self.say(terminal, "/tokens")
        self.assertIn("256 of them by pictures", told)
        self.assertNotIn("next message", told)
        terminal.send("/exit\r")
        self.assertEqual(terminal.finish(), 0)

    def test_what_does_not_fit_is_given_back(self):
        terminal = self.chat("-c", "200")
        self.say(terminal, f"/image {quote(SMALL)}")
        self.assertIn("holds 200", self.say(terminal, "hello"))
        self.assertIn("next message", self.say(terminal, "\x15/tokens"))
        self.say(terminal, "/image")
        self.assertIn("5 at ", self.say(terminal, "hello"))

    def test_ctrl_c_while_encoding_gives_the_message_back(self):
        terminal = self.chat("-c", "30000", "--tiles", "10x10")
        self.say(terminal, f"/image {quote(WIDE)}")
        terminal.send("hello\r")
        terminal.expect("encoding [")
        terminal.send("\x03")
        self.assertIn("stopped while encoding", self.reply(terminal))
        terminal.expect("hello")  # The draft.
        told = self.say(terminal, "\x15/tokens")
        self.assertIn("by 0 turns", told)
        self.assertIn("101 views", told)
        self.say(terminal, "/image")
        self.say(terminal, f"/image {quote(SMALL)}")
        self.assertIn("5 at ", self.say(terminal, "hello"))

    def test_what_was_read_counts_for_the_same_picture_only(self):
        note = self.path("note.txt", "word " * 10000)
        options = ["-c", "40000", "--chunk", "64"]
        whole = self.generate(
            *("--mmproj", MMPROJ, "--image", SMALL, "--chat", "-n", "1", *options),
            *("-p", "word " * 10000 + "\n\nhello"),
        )["usage"]["prompt_tokens"]
        for after, same in (([], True), (["/image", f"/image {quote(OTHER)}"], False)):
            terminal = self.chat(*options)
            self.say(terminal, f"/image {quote(SMALL)}")
            self.say(terminal, f"/read {note}")
            terminal.send("hello\r")
            terminal.expect("reading [")
            terminal.send("\x03")
            self.assertIn("stopped while reading", self.reply(terminal))
            terminal.expect("hello")
            self.say(terminal, "\x15/tokens")
            for line in after:
                self.say(terminal, line)
            told = self.say(terminal, "hello").partition("[read ")[2]
            self.assertEqual(int(told.split()[0]) < whole, same, (told, whole))
            self.assertEqual(int(told.split()[0]) == whole, not same, (told, whole))


if __name__ == "__main__":
    main()
