"""Going back in a conversation: what is drawn afterwards, and what is read again."""

import json
import re
from shlex import quote

from harness import TINY, Case, Terminal, main
from pictures import OTHER, SMALL, Pictures

MODEL = ("-m", TINY)


def replies(out):
    """Of a script's output, the replies: a line each, as long as none holds a line end."""
    return out.split("\n")[:-1]


def reads(error):
    return [int(line.split()[1]) for line in error.splitlines() if line.startswith("[read")]


class Rewind(Case):
    # A reply of the tiny model is a few pieces of any script; --top-k 5 and this seed draw no line end.
    def chat(self, lines, *options, model=MODEL, code=0):
        done = self.run_cli("chat", *model, "-n", "6", "--seed", "3", *options, input="\n".join(lines) + "\n")
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stdout, done.stderr.decode(errors="replace")

    def test_answers_are_those_of_a_chat_with_the_turns_left(self):
        said = ["one", "two words", "three of them", "four", "five"]
        whole, _ = self.chat(said)
        for count in range(1, len(said) + 1):
            left = said[: len(said) - count]
            rest = ["something else", "and more"]
            wanted, _ = self.chat(left + rest)
            got, error = self.chat(said + [f"/rewind {count}"] + rest)
            self.assertEqual(got, whole + wanted[len(self.chat(left)[0]) if left else 0 :], count)
            self.assertIn(f"{len(left)} turn{'' if len(left) == 1 else 's'} left", error)

    def test_the_same_with_long_messages_and_few_snapshots(self):
        # Windows of the tiny model are far shorter than these turns.
        said = [f"{word} " * 300 for word in ("alpha", "beta", "gamma", "delta")]
        whole, _ = self.chat(said)
        for snapshots in ("0", "10M"):
            for count in (1, 2, 3):
                left = said[: len(said) - count]
                wanted, _ = self.chat(left + ["and now"])
                got, _ = self.chat(said + [f"/rewind {count}", "and now"], "--snapshot-memory", snapshots)
                self.assertEqual(got, whole + wanted[len(self.chat(left)[0]) :], (snapshots, count))

    def test_only_what_follows_is_read(self):
        said = [f"{word} " * 300 for word in ("alpha", "beta", "gamma")]
        _, error = self.chat(said + ["/rewind 2", "short"])
        counts = reads(error)
        self.assertEqual(len(counts), 4)
        self.assertLess(counts[3], 60)
        self.assertNotIn("again", error.splitlines()[-1])

    def test_the_list_numbers_turns_by_what_takes_them_back(self):
        _, error = self.chat(["first words", "second", "/rewind"])
        self.assertRegex(error, r"  2  first words\n    1  second\n/rewind N")
        self.assertIn("nothing has been said", self.chat(["/rewind"])[1])

    def test_what_is_no_number_of_turns_takes_nothing_back(self):
        for wrong in ("0", "3", "-1", "1.5", "two", "99999999999999999999"):
            _, error = self.chat(["first", "second", f"/rewind {wrong}", "/tokens"])
            self.assertIn(f"/rewind: expected a whole number from 1 to 2, found {wrong}", error)
            self.assertIn("by 2 turns", error)

    def test_a_system_text_is_read_once(self):
        system = "be brief and kind " * 60
        _, error = self.chat(["hello", "/clear", "other words", "/undo", "third"], "--system", system)
        counts = reads(error)
        self.assertGreater(counts[0], 240)
        self.assertLess(max(counts[1:]), 20)

    def test_another_system_text_holds_from_the_next_message_on(self):
        got, error = self.chat(["hello", "/system Be brief.", "more"])
        first, _ = self.chat(["hello"])
        self.assertTrue(got.startswith(first))
        again = re.search(r"read (\d+) tokens", error.splitlines()[-1])
        self.assertGreater(int(again[1]), reads(error)[0])
        # It is the system text of the first turn, too: the same as one that was there from the beginning and answered so.
        self.assertNotEqual(got, self.chat(["hello", "more"])[0])


class WithPictures(Pictures):
    def chat(self, lines, *options):
        done = self.run_cli("chat", *self.model, "-n", "6", "--seed", "3", *options, input="\n".join(lines) + "\n")
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout, done.stderr.decode(errors="replace")

    def test_pictures_that_are_taken_back_are_gone(self):
        said = [f"/image {quote(SMALL)}", "look", "what is it", f"/image {quote(OTHER)}", "and this", "more"]
        whole, _ = self.chat(said)
        for count, left in ((1, said[:5]), (2, said[:3]), (3, said[:2]), (4, [])):
            rest = [f"/image {quote(OTHER)}", "another", "end"]
            wanted, _ = self.chat(left + rest)
            got, error = self.chat(said + [f"/rewind {count}"] + rest)
            before = len(self.chat(left)[0]) if left else 0
            self.assertEqual(got, whole + wanted[before:], count)
        self.assertIn('from "[1 picture] look" on', error)


class OnATerminal(Case):
    def test_the_next_line_is_empty(self):
        terminal = Terminal(self, "chat", *MODEL, "-n", "5", "--seed", "3")
        terminal.expect(">>> ")
        for said in ("one", "two", "/rewind 2"):
            terminal.send(said + "\r")
            before = terminal.expect(">>> ")
        self.assertIn('2 turns taken back, from "one" on; 0 turns left', before)
        terminal.send("/tokens\r")
        self.assertIn("by 0 turns", terminal.expect(">>> "))
        terminal.send("/exit\r")
        self.assertEqual(terminal.finish(), 0)


if __name__ == "__main__":
    main()
