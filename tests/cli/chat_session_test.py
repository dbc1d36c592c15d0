"""Conversations that outlive their process: /save, /load and --session, on chat and on generate."""

import glob
import os
import random
import re
import signal
import subprocess
import time
from shlex import quote

from harness import DATA, LAPIDARY, TINY, Case, main
from pictures import OTHER, SMALL, Pictures

CHAT = ("chat", "-m", TINY, "-n", "6", "--seed", "3")
ASK = ("generate", "-q", "-m", TINY, "-n", "6", "--seed", "3")


class Sessions(Case):
    def setUp(self):
        super().setUp()
        self.file = self.path("talk.session")

    def chat(self, lines, *options, code=0):
        done = self.run_cli(*CHAT, *options, input="".join(line + "\n" for line in lines))
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stdout, done.stderr.decode(errors="replace")

    def bytes(self):
        with open(self.file, "rb") as file:
            return file.read()


class SaveAndLoad(Sessions):
    def test_a_conversation_goes_on_elsewhere(self):
        said = ["one", "two " * 200, "three"]
        whole, _ = self.chat(said + ["four", "five"])
        first, error = self.chat(said + [f"/save {self.file}"])
        self.assertIn(f"3 turns saved to {self.file}", error)
        for options in ([], ["--chunk", "7", "-c", "2048"], ["-t", "2", "--snapshot-memory", "0"]):
            rest, error = self.chat([f"/load {self.file}", "four", "five"], *options)
            self.assertEqual(first + rest, whole)
            self.assertIn(f"{self.file}: 3 turns, ", error)

    def test_what_was_loaded_can_be_taken_back(self):
        said = ["one", "two " * 200, "three"]
        self.chat(said + [f"/save {self.file}"])
        wanted, _ = self.chat(said[:1] + ["other"])
        got, error = self.chat([f"/load {self.file}", "/rewind 2", "other"])
        self.assertTrue(wanted.endswith(got) and got.strip(), (wanted, got))
        self.assertIn('from "two two', error)
        got, _ = self.chat([f"/load {self.file}", "/regen"])
        self.assertTrue(self.chat(said + ["/regen"])[0].endswith(got))

    def test_what_was_taken_back_is_not_saved(self):
        self.chat(["one", "two", "/undo", f"/save {self.file}"])
        got, error = self.chat([f"/load {self.file}", "three"])
        self.assertIn(": 1 turn, ", error)
        self.assertTrue(self.chat(["one", "three"])[0].endswith(got))

    def test_the_system_text_comes_along(self):
        self.chat(["one", f"/save {self.file}"], "--system", "Be brief.")
        got, error = self.chat([f"/load {self.file}", "/system", "two"])
        self.assertIn("system: Be brief.", error)
        self.assertTrue(self.chat(["one", "two"], "--system", "Be brief.")[0].endswith(got))
        # One that was set and not used yet, too.
        self.chat(["one", "/system Be long.", f"/save {self.file}"])
        got, error = self.chat([f"/load {self.file}", "two"])
        self.assertTrue(self.chat(["one", "/system Be long.", "two"])[0].endswith(got))

    def test_what_the_model_no_longer_sees_comes_along(self):
        full = ["-c", "256", "--on-full", "slide"]
        said = ["/set max-tokens 0"] + [f"{i} " + "word " * 30 for i in range(8)]
        end = ["/set max-tokens 8", "and now"]
        self.chat(said + [f"/save {self.file}"], *full)
        _, error = self.chat([f"/load {self.file}", "/rewind"], *full)
        self.assertEqual(len(re.findall(r"^ +\d  \d word", error, re.MULTILINE)), 8)
        self.assertIn("no longer seen", error)
        got, _ = self.chat([f"/load {self.file}", "/rewind 6"] + end, *full)
        self.assertEqual(got, self.chat(said[:3] + end, *full)[0])

    def test_home_is_expanded(self):
        self.chat(["one", "/save ~/talk.session"])
        self.assertIn(": 1 turn, ", self.chat(["/load ~/talk.session"])[1])

    def test_only_sessions_are_written_over(self):
        letter = self.path("letter", "to my aunt")
        _, error = self.chat(["one", f"/save {letter}"], code=3)
        self.assertIn("is there and no saved session", error.splitlines()[-1])
        with open(letter) as file:
            self.assertEqual(file.read(), "to my aunt")
        self.chat(["one", f"/save {self.file}"])
        self.chat(["one", "two", f"/save {self.file}"])
        self.assertIn(": 2 turns, ", self.chat([f"/load {self.file}"])[1])

    def test_places_that_cannot_be_written(self):
        pipe = self.path("pipe")
        os.mkfifo(pipe)
        for bad in (self.folder, pipe, self.path("none/talk"), "/dev/full", "/dev/null"):
            _, error = self.chat(["one", f"/save {bad}"], code=3)
            self.assertIn(bad, error.splitlines()[-1])
            self.assertTrue(error.splitlines()[-1].startswith("lapidary: "))
        self.assertEqual(os.listdir(self.folder), ["pipe"])

    def test_what_cannot_be_loaded(self):
        pipe = self.path("pipe")
        os.mkfifo(pipe)
        letter, empty = self.path("letter", "to my aunt " * 1000), self.path("empty", "")
        for bad in (self.folder, pipe, letter, empty, self.path("none"), TINY):
            for how in ((CHAT, [f"/load {bad}"], []), (CHAT, ["x"], ["--session", bad]),
                        (ASK, [], ["-p", "x", "--session", bad])):
                if bad == self.path("none") and how[2]:
                    continue
                done = self.run_cli(*how[0], *how[2], input="".join(line + "\n" for line in how[1]))
                self.assertEqual((done.returncode, done.stdout), (3, b""), (bad, how))
                self.assertIn(bad, done.stderr.decode().splitlines()[-1])
        with open(letter) as file:
            self.assertEqual(file.read(), "to my aunt " * 1000)

    def test_commands_without_a_name_or_a_turn(self):
        _, error = self.chat(["/save", "/load", f"/save {self.file}"])
        for words in ("/save needs a file", "/load needs a file", "nothing has been said"):
            self.assertIn(words, error)
        self.assertFalse(os.path.exists(self.file))


class SessionOption(Sessions):
    def test_each_process_goes_on(self):
        said = ["one", "two " * 100, "three"]
        whole, _ = self.chat(said)
        self.assertEqual(b"".join(self.chat([line], "--session", self.file)[0] for line in said), whole)
        self.assertEqual(glob.glob(self.folder + "/talk*"), [self.file])

    def test_generate_and_chat_go_on_with_each_other(self):
        said = ["one", "two", "three", "four"]
        whole, _ = self.chat(said)
        parts = [
            self.run_cli(*ASK, "--chat", "-p", said[0], "--session", self.file).stdout,
            self.chat(said[1:2], "--session", self.file)[0],
            self.run_cli(*ASK, "-p", said[2], "--session", self.file).stdout,
            self.chat(said[3:], "--session", self.file)[0],
        ]
        self.assertEqual(b"".join(parts), whole)

    def test_plain_text_goes_on_as_plain_text(self):
        options = ("--no-chat", "-n", "6", "--seed", "3", "--session", self.file)
        first = self.generate("-p", "hello", *options)
        second = self.generate("-p", " and more", *options[1:])
        before = first["prompt_ids"] + first["ids"]
        self.assertEqual(first["finish_reason"], "length")
        self.assertEqual(second["prompt_ids"][: len(before)], before)
        alone = self.generate("-p", " and more", "--no-chat", "-n", "1")["prompt_ids"]
        self.assertEqual(second["prompt_ids"][len(before) :], alone[1:])
        self.assertGreaterEqual(second["usage"]["cached_tokens"], len(before) - 1)

    def test_texts_and_conversations_do_not_mix(self):
        self.run_cli(*ASK, "--no-chat", "-p", "x", "--session", self.file)
        kept = self.bytes()
        self.fails(2, "is plain text; leave out --chat", *ASK, "--chat", "-p", "x", "--session", self.file)
        self.fails(3, "it is plain text", *CHAT, "-q", "--session", self.file)
        self.assertEqual(self.bytes(), kept)
        os.remove(self.file)
        self.chat(["one"], "--session", self.file)
        self.fails(2, "is a conversation; leave out --no-chat", *ASK, "--no-chat", "-p", "x", "--session", self.file)
        self.fails(2, "in the template gemma, but --template says chatml", *CHAT, "-q", "--session", self.file,
                   "--template", "chatml")

    def test_the_template_comes_along(self):
        said = ["one", "two"]
        whole, _ = self.chat(said, "--template", "chatml")
        first, _ = self.chat(said[:1], "--template", "chatml", "--session", self.file)
        self.assertEqual(first + self.chat(said[1:], "--session", self.file)[0], whole)

    def test_read_only_leaves_the_file(self):
        self.chat(["one"], "--session", self.file)
        kept, status = self.bytes(), os.stat(self.file)
        read_only = ("--session", self.file, "--session-read-only")
        asked = self.run_cli(*ASK, "-p", "two", *read_only).stdout
        said, _ = self.chat(["two", "/undo", f"/save {self.file}"], *read_only)
        self.assertEqual(asked, said)
        self.assertEqual(self.bytes(), kept)
        self.assertEqual((os.stat(self.file).st_mtime_ns, os.stat(self.file).st_ino), (status.st_mtime_ns, status.st_ino))
        self.assertEqual(self.chat(["two"], "--session", self.file)[0], said)
        self.fails(3, self.path("none"), *ASK, "-p", "x", "--session", self.path("none"), "--session-read-only")
        for command in (ASK + ("-p", "x"), CHAT):
            self.fails(2, "--session-read-only needs --session FILE", *command, "--session-read-only")

    def test_commands_hold_at_the_end(self):
        self.chat(["one", "two", "/undo"], "--session", self.file)
        self.assertIn(": 1 turn, ", self.chat([], "--session", self.file)[1])
        self.chat(["/clear"], "--session", self.file)
        self.assertIn(": 0 turns, ", self.chat([], "--session", self.file)[1])

    def test_a_file_that_is_loaded_is_the_session_from_then_on(self):
        other = self.path("other.session")
        self.chat(["one", f"/save {other}"])
        self.chat(["two", f"/load {other}", "three"], "--session", self.file)
        self.assertIn(": 1 turn, ", self.chat([], "--session", self.file)[1])
        self.assertIn(": 2 turns, ", self.chat([], "--session", other)[1])

    def test_what_another_process_saved_is_not_written_over(self):
        process = self.start(*CHAT, "--session", self.file, stdin=subprocess.PIPE)
        process.stdin.write(b"one\n")
        process.stdin.flush()
        process.stdout.readline()
        self.wait_for(lambda: os.path.exists(self.file))
        self.chat(["two"], "--session", self.file)
        kept = self.bytes()
        _, error = process.communicate(b"three\n", timeout=60)
        self.assertEqual(process.returncode, 3)
        self.assertIn(b"was changed by another program since it was read", error)
        self.assertEqual(self.bytes(), kept)

    def wait_for(self, condition):
        end = time.monotonic() + 60
        while not condition():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)

    def test_another_kind_of_keys_and_values(self):
        first, _ = self.chat(["one", "two"], "--session", self.file)
        kept = self.bytes()
        again = ("--session", self.file, "--kv", "int8")
        self.fails(3, self.file, *CHAT, "-q", *again)
        self.fails(3, self.file, *ASK, "-p", "x", *again)
        self.assertEqual(self.bytes(), kept)
        out, error = self.chat(["three"], *again, "--session-recompute")
        self.assertIn("tokens read again", error)
        self.assertTrue(out.strip())
        # It is of int8 now.
        self.assertNotIn("again", self.chat([], *again)[1])

    def test_damage(self):
        said = ["one", "two " * 60]
        self.chat(said, "--session", self.file)
        whole, wanted = self.bytes(), self.chat(said + ["three"])[0]
        generator = random.Random(1)
        recomputed = 0
        for i in range(40):
            damaged = bytearray(whole)
            if i % 4 == 0:
                del damaged[generator.randrange(len(whole)) :]
            else:
                damaged[generator.randrange(len(whole))] ^= 1 << generator.randrange(8)
            self.path("talk.session", bytes(damaged))
            done = self.run_cli(*CHAT, "-q", "--session", self.file, "--session-read-only", input="three\n")
            # What does not matter any more, a snapshot say, may be damaged.
            if done.returncode == 0:
                self.assertTrue(wanted.endswith(done.stdout))
            else:
                self.assertEqual((done.returncode, done.stdout), (3, b""))
                self.assertEqual(done.stderr.count(b"\n"), 1, done.stderr)
            again = self.run_cli(*CHAT, "-q", "--session", self.file, "--session-read-only", "--session-recompute",
                                 input="three\n")
            if again.returncode == 0:
                recomputed += done.returncode != 0
                self.assertTrue(wanted.endswith(again.stdout) and again.stdout.strip())
            else:
                self.assertEqual((again.returncode, again.stdout), (3, b""))
        self.assertGreater(recomputed, 0)

    def test_killed_at_any_moment(self):
        said = [f"{i} some words" for i in range(12)]
        loadable = 0
        for run in range(25):
            if os.path.exists(self.file):
                os.remove(self.file)
            process = self.start(*CHAT, "-q", "--session", self.file, stdin=subprocess.PIPE)
            process.stdin.write("".join(line + "\n" for line in said).encode())
            process.stdin.flush()
            process.stdout.readline()  # The first reply has begun.
            time.sleep(random.Random(run).uniform(0, 0.1))
            process.kill()
            process.wait()
            process.stdin.close()
            if not os.path.exists(self.file):
                continue
            loadable += 1
            done = self.run_cli(*CHAT, "--session", self.file, "--session-read-only", input="/rewind\n")
            self.assertEqual(done.returncode, 0, done.stderr)
            turns = re.findall(r"^ +\d+  (\d+ some words)$", done.stderr.decode(), re.MULTILINE)
            self.assertEqual(turns, said[: len(turns)])
            self.assertTrue(turns)
        self.assertGreater(loadable, 0)

    def test_a_reply_that_is_stopped_is_kept(self):
        options = self.endless()[2:]  # Without its prompt.
        process = self.start("generate", "-q", "-m", TINY, "--session", self.file, "-c", "100000", "-p", "hello", *options)
        process.stdout.read1(1)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(60), 130)
        got = self.generate("-p", " more", "-n", "1", "--session", self.file, "-c", "100000")
        self.assertGreater(len(got["prompt_ids"]), 5)


class WithPictures(Pictures):
    def chat(self, lines, *options):
        done = self.run_cli("chat", *self.model, "-n", "6", "--seed", "3", *options,
                            input="".join(line + "\n" for line in lines))
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout, done.stderr.decode(errors="replace")

    def test_pictures_come_along(self):
        file = self.path("talk.session")
        said = [f"/image {quote(SMALL)}", "look", f"/image {quote(OTHER)}", "and this"]
        self.chat(said, "--session", file)
        read_only = ("--session", file, "--session-read-only")
        for rest in (["more"], ["/edit other words"], ["/regen"], ["/system Be brief.", "more"], ["/undo", "other"]):
            got, _ = self.chat(rest, *read_only)
            wanted, _ = self.chat(said + rest)
            self.assertTrue(got.strip() and wanted.endswith(got), rest)
        _, error = self.chat(["/rewind", "/tokens"], *read_only)
        self.assertIn("  2  [1 picture] look\n", error)
        self.assertIn("of them by pictures", error)

    def test_generate_with_pictures(self):
        file = self.path("talk.session")
        whole, _ = self.chat([f"/image {quote(SMALL)}", "look", f"/image {quote(OTHER)}", "and this"])
        ask = ("generate", "-q", *self.model, "-n", "6", "--seed", "3", "--chat", "--session", file)
        parts = [self.run_cli(*ask, "-p", text, "--image", picture).stdout
                 for text, picture in (("look", SMALL), ("and this", OTHER))]
        self.assertEqual(b"".join(parts), whole)


if __name__ == "__main__":
    main()
