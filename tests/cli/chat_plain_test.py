"""A chat on a terminal where libedit is not built in: lines as the terminal itself edits them."""

from harness import TINY, Case, Terminal, main

PROMPT = ">>> "


class Plain(Case):
    def test_a_line_an_interrupt_and_the_end(self):
        chat = Terminal(self, "chat", "-m", TINY, "-n", "5", "--seed", "3")
        chat.expect(PROMPT)
        chat.send("hellp\x7fo\n")
        reply = chat.expect(PROMPT)
        self.assertIn("drew 5", reply)
        self.assertNotIn("\x1b[?2004h", reply)
        chat.send("half a line\x03")
        chat.expect("Ctrl-D")
        chat.expect(PROMPT)
        chat.send("\x04")
        self.assertEqual(chat.finish(), 0)

    def test_a_line_of_several(self):
        chat = Terminal(self, "chat", "-m", TINY, "-n", "5", "--seed", "3")
        chat.expect(PROMPT)
        chat.send('"""\nin two\nlines\n"""\n')
        chat.expect("drew 5")
        chat.expect(PROMPT)
        chat.send("/exit\n")
        self.assertEqual(chat.finish(), 0)


if __name__ == "__main__":
    main()
