"""A context that is full: nothing is dropped without a word, and what stays answers as if there had been no more."""

import json
import re

from harness import TINY, Case, Terminal, main

DROPPED = re.compile(r"the model no longer sees the (?:(\d+) oldest turns|oldest turn)\n")
ASKED = "the context is full: drop "


def dropped(error):
    return [int(count or 1) for count in DROPPED.findall(error)]


def reads(error):
    return [int(line.split()[1]) for line in error.splitlines() if line.startswith("[read")]


class Slide(Case):
    def chat(self, lines, *options, code=0):
        done = self.run_cli("chat", "-m", TINY, "--seed", "3", *options, input="\n".join(lines) + "\n")
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stdout, done.stderr.decode(errors="replace")

    # Without replies, so that a chat which never had the turns that go can say the same.
    def messages(self, count):
        return ["/set max-tokens 0"] + [f"{i} " + "word " * 30 for i in range(count)]

    def test_answers_are_those_of_a_chat_with_the_turns_that_stay(self):
        end = ["/set max-tokens 8", "and now"]
        for system in ("", "be brief and kind"):
            for chunk in ("512", "7"):
                options = ["-c", "256", "--system", system, "--chunk", chunk]
                said = self.messages(7)
                got, error = self.chat(said + end, *options, "--on-full", "slide")
                gone = sum(dropped(error))
                self.assertGreater(gone, 0)
                wanted, none = self.chat(said[:1] + said[1 + gone :] + end, *options)
                self.assertEqual(dropped(none), [])
                self.assertEqual(got, wanted)
                self.assertTrue(got.strip(b"\n"))

    def test_room_is_made_for_some_turns_at_once(self):
        _, error = self.chat(self.messages(30), "-c", "512", "--on-full", "slide")
        times = dropped(error)
        self.assertGreater(len(times), 1)
        self.assertGreater(min(times), 1)
        self.assertLess(sum(times), 30)
        self.assertLess(len(times), 15)

    def test_the_system_text_is_not_read_again(self):
        system = "be brief and kind " * 40
        _, error = self.chat(self.messages(8), "-c", "512", "--system", system, "--on-full", "slide")
        self.assertGreater(len(dropped(error)), 0)
        first, *later = reads(error)
        self.assertGreater(first, 160)
        context = 512
        self.assertLess(max(later), context - 160 + 60)

    def test_the_list_shows_what_is_no_longer_seen(self):
        _, error = self.chat(self.messages(8) + ["/rewind", "/tokens"], "-c", "256", "--on-full", "slide")
        gone = sum(dropped(error))
        self.assertEqual(error.count("(no longer seen by the model)"), gone)
        self.assertIn(f"by {8 - gone} turns, {gone} before them no longer seen", error)

    def test_what_was_dropped_comes_back_with_rewind(self):
        said, end = self.messages(8), ["/set max-tokens 8", "and now"]
        options = ["-c", "256", "--on-full", "slide"]
        got, error = self.chat(said + ["/rewind 6"] + end, *options)
        self.assertGreater(sum(dropped(error)), 2)
        wanted, _ = self.chat(said[:3] + end, *options)
        self.assertEqual(got, wanted)
        self.assertNotIn("no longer seen", self.chat(said + ["/rewind 6", "/rewind"], *options)[1].split("taken back")[1])

    def test_a_reply_goes_on(self):
        # Greedy, so that a reply ends with the context alone.
        options = ["-c", "128", "--temp", "0", "--on-full", "slide"]
        said = ["/set max-tokens 5", "one " * 20, "/set max-tokens 200", "two"]
        got, error = self.chat(said, *options)
        drawn = [int(count) for count in re.findall(r"drew (\d+) at", error)]
        self.assertGreater(len(dropped(error)), 0, error)
        # More than was left of the context behind what was read.
        self.assertTrue(any(read + count > 128 for read, count in zip(reads(error), drawn)), error)
        for same in (["--chunk", "5"], ["-t", "2"], ["--speculation", "off"], ["--snapshot-memory", "0"]):
            self.assertEqual(self.chat(said, *options, *same)[0], got, same)

    def test_what_can_never_fit_drops_nothing(self):
        said = self.messages(3) + ["word " * 400]
        _, error = self.chat(said, "-c", "256", "--on-full", "slide", code=5)
        self.assertIn("the context holds 256", error)
        self.assertEqual(dropped(error), [])

    def test_a_script_stops_unless_told(self):
        for options in ([], ["--on-full", "stop"], ["--on-full", "ask"]):
            _, error = self.chat(self.messages(9), "-c", "256", "-q", *options, code=5)
            self.assertIn("the context holds 256; /undo takes the last turn back", error)
            self.assertEqual(dropped(error), [])

    def test_a_reply_that_is_cut_off_is_told_even_where_nothing_else_is(self):
        _, error = self.chat(["hello"], "-c", "40", "-q", "--temp", "0")
        self.assertRegex(error, r"^lapidary: the context is full: /undo")

    def test_sliding_is_told_even_where_nothing_else_is(self):
        _, error = self.chat(self.messages(8), "-c", "256", "-q", "--on-full", "slide")
        self.assertGreater(len(dropped(error)), 0)


class Length(Case):
    def test_generate_and_batch_say_that_the_context_ended_it(self):
        got = self.generate("-p", "hello", "--temp", "0", "-c", "40")
        self.assertEqual(got["finish_reason"], "length")
        self.assertEqual(len(got["prompt_ids"]) + len(got["ids"]), 40)
        line = json.dumps({"prompt": "hello", "temperature": 0}) + "\n"
        done = self.run_cli("batch", "-q", "-m", TINY, "-c", "40", "-", "-o", "-", input=line)
        answer = json.loads(done.stdout)
        self.assertEqual(answer["finish_reason"], "length")
        self.assertEqual(answer["text"], got["text"])


class Asked(Case):
    def chat(self, *options):
        terminal = Terminal(self, "chat", "-m", TINY, "--seed", "3", "-c", "256", *options)
        terminal.expect(">>> ")
        terminal.send("/set max-tokens 0\r")
        terminal.expect(">>> ")
        return terminal

    def fill(self, terminal):
        """Says as much as fits; the next message does not."""
        for i in range(6):
            terminal.send(f"{i} " + "word " * 10 + "\r")
            terminal.expect("tokens used]")
            terminal.expect(">>> ")

    def tokens(self, terminal):
        terminal.send("/tokens\r")
        used = terminal.expect(" of 256 tokens used by ").split()[-1]
        turns = terminal.expect(" turn")
        terminal.expect(">>> ")
        return used, turns

    def test_nothing_is_dropped_at_no(self):
        terminal = self.chat()
        self.fill(terminal)
        before = self.tokens(terminal)
        for answer in ("n", "", "\x03", "nonsense"):
            terminal.send("more " + "word " * 40 + "\r")
            terminal.expect(ASKED)
            terminal.expect("[y/N] ")
            terminal.send(answer if answer == "\x03" else answer + "\r")
            # The message is offered again.
            terminal.expect(">>> ")
            terminal.expect("more word")
            terminal.send("\x15")  # Clears the line.
            self.assertEqual(self.tokens(terminal), before, answer)

    def test_the_oldest_go_at_yes(self):
        terminal = self.chat()
        self.fill(terminal)
        terminal.send("more " + "word " * 40 + "\r")
        terminal.expect(ASKED)
        gone = int(re.match(r"the (\d+) oldest turns to make room\? ", terminal.expect("[y/N] "))[1])
        terminal.send("y\r")
        terminal.expect("tokens used]")
        terminal.expect(">>> ")
        self.assertEqual(self.tokens(terminal)[1], str(7 - gone))
        terminal.send("/exit\r")
        self.assertEqual(terminal.finish(), 0)


if __name__ == "__main__":
    main()
