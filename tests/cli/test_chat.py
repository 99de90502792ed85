"""The chat of ferrum run, through a pseudo-terminal."""
import contextlib
import os
import pty
import re
import select
import signal
import sys
import time
import unittest

from common import CHATML, PROGRAM, SKIPPED, Case, model, with_string_key

TIMEOUT = 30
CTRL_C, CTRL_D, UP = b"\3", b"\4", b"\x1b[A"


class Terminal:
    """The program on a terminal of its own; what it prints, on either stream, is collected in `seen`."""

    def __init__(self, folder, *arguments):
        self.seen = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm", XDG_STATE_HOME=folder, LANG="C.UTF-8")
            os.execv(PROGRAM, [PROGRAM, "run", *arguments])

    def read(self, until):
        """What comes up to the pattern's next match; fails after a time without one."""
        end = time.monotonic() + TIMEOUT
        while not (found := re.search(until, self.seen, re.S)):
            if not select.select([self.fd], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f"{until} did not come; this did: {self.seen}")
            try:
                self.seen += os.read(self.fd, 4096)
            except OSError:
                raise AssertionError(f"the program ended before {until}; this came: {self.seen}") from None
        before, self.seen = self.seen[:found.end()], self.seen[found.end():]
        return before

    def type(self, keys):
        os.write(self.fd, keys)

    def end(self):
        """The exit status, or minus the signal; fails where the program does not end."""
        with contextlib.suppress(AssertionError):
            self.read(b"never printed")
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        for _ in range(100):  # what the terminal was closed by may still be exiting
            if pid:
                break
            time.sleep(0.05)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            raise AssertionError(f"the program did not end; this came: {self.seen}")
        os.close(self.fd)
        self.pid = None
        return os.waitstatus_to_exitcode(status)

    def kill(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            os.close(self.fd)


class Chat(Case):
    def terminal(self, *arguments):
        terminal = Terminal(self.folder, *arguments)
        self.addCleanup(terminal.kill)
        return terminal

    def start(self, *more, template=CHATML):
        path = with_string_key(model("tiny-qwen2"), "tokenizer.chat_template", template, self.folder) if template \
            else model("tiny-qwen2")
        terminal = self.terminal(path, "--verbose", "--ignore-end", "--temperature", "0", *more)
        terminal.read(b"> ")
        return terminal

    def say(self, terminal, text):
        """Types a line: the number of prompt tokens that were evaluated for it."""
        terminal.type(text + b"\r")
        return int(re.search(rb"prompt (\d+) tokens", terminal.read(rb"prompt \d+ tokens in .*?> "))[1])

    def test_turns(self):
        # ids by the `tokenizers` package: <|im_start|>user\n 4, Hello 4, <|im_end|>\n 2, <|im_start|>assistant\n 8
        terminal = self.start("-n", "1")
        self.assertEqual(self.say(terminal, b"Hello"), 18)
        # The second turn evaluates what the first left out: the answer's one token, <|im_end|>\n 2, and as much again.
        self.assertEqual(self.say(terminal, b"Hello"), 1 + 2 + 18)
        terminal.type(b"/reset\r")
        terminal.read(b"> ")
        # All but the last token, which is evaluated again for its logits, is there.
        self.assertEqual(self.say(terminal, b"Hello"), 1)
        terminal.type(CTRL_D)
        self.assertEqual(terminal.end(), 0)

    def test_interrupted_answer(self):
        terminal = self.start("--device", "ref")
        terminal.type(b"Hello\r")
        terminal.read(rb"Hello\s+\S")
        terminal.type(CTRL_C)
        terminal.read(rb"answer \d+ tokens.*> ")
        self.assertGreater(self.say_and_stop(terminal), 1)
        terminal.type(CTRL_D)
        self.assertEqual(terminal.end(), 0)

    def say_and_stop(self, terminal):
        terminal.type(b"Hi\r")
        terminal.read(rb"Hi\s+\S")
        terminal.type(CTRL_C)
        return int(re.search(rb"prompt (\d+) tokens", terminal.read(rb"answer \d+ tokens.*> "))[1])

    def test_interrupt_at_the_prompt(self):
        terminal = self.start("-n", "1")
        terminal.type(b"Hel")
        terminal.read(b"Hel")
        for _ in range(3):
            terminal.type(CTRL_C)
            terminal.read(b"> ")
        self.assertEqual(self.say(terminal, b"Hello"), 18)  # the cut line is forgotten
        terminal.type(CTRL_D)
        self.assertEqual(terminal.end(), 0)

    def test_commands(self):
        terminal = self.start("-n", "1")
        for line, answer in (b"/help", b"Ctrl-D.*leave"), (b"/nonsense", b"unknown command /nonsense"):
            terminal.type(line + b"\r")
            terminal.read(answer)
            terminal.read(b"> ")
        terminal.type(b"\r")
        terminal.read(b"> ")
        terminal.type(CTRL_D)
        self.assertEqual(terminal.end(), 0)

    def test_history(self):
        first = self.start("-n", "1")
        self.say(first, "häuser".encode())
        first.type(CTRL_D)
        self.assertEqual(first.end(), 0)
        second = self.start("-n", "1")
        second.type(UP)
        second.read("häuser".encode())
        second.type(b"\r")
        second.read(rb"prompt \d+ tokens")
        second.read(b"> ")
        second.type(CTRL_D)
        self.assertEqual(second.end(), 0)

    def test_too_long(self):
        terminal = self.start("-n", "1", "-c", "24")
        terminal.type(b"Hello Hello Hello Hello Hello\r")
        self.assertIn(b"24", terminal.read(b"the message is not kept"))
        terminal.read(b"> ")
        self.assertGreater(self.say(terminal, b"Hello"), 0)
        terminal.type(CTRL_D)
        self.assertEqual(terminal.end(), 0)

    def test_without_template(self):
        terminal = self.start("-n", "1", template=None)
        self.assertEqual(self.say(terminal, b"Hello"), 4)
        self.assertEqual(self.say(terminal, b"Hello"), 1)  # by itself: the same ids, the last evaluated again
        terminal.type(CTRL_D)
        self.assertEqual(terminal.end(), 0)

    def test_json_needs_a_prompt(self):
        terminal = self.terminal(model("tiny-qwen2"), "--json")
        terminal.read(b"--json needs a prompt")
        self.assertEqual(terminal.end(), 2)

    def test_hangup(self):
        terminal = self.start("-n", "1")
        os.kill(terminal.pid, signal.SIGTERM)
        self.assertEqual(terminal.end(), -signal.SIGTERM)


def no_terminals():
    """Why no pseudo-terminal is to be had here, as in a root without /dev/pts; None where one is."""
    try:
        for fd in pty.openpty():
            os.close(fd)
    except OSError as why:
        return why
    return None


if __name__ == "__main__":
    if why := no_terminals():
        print(f"skipped: {why}")
        sys.exit(SKIPPED)
    unittest.main()
