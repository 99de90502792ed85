"""What the scripts that need a running `ferrum serve` share."""
import collections
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request

import common


class Server:
    """`ferrum serve MODEL OPTION...` on a free port of loopback; `url` is its address, `tail` the last lines that it said."""

    def __init__(self, model, *options):
        self.process = subprocess.Popen([common.PROGRAM, "serve", model, "--port", "0", *map(str, options)], stdin=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, text=True, errors="replace")
        self.tail, self.url = collections.deque(maxlen=2000), None
        for line in self.process.stderr:
            self.tail.append(line)
            found = re.search(r"listening on (http://\S+)", line)
            self.url = found[1] if found else self.url
            if "ready: " in line:
                break
        else:
            sys.exit(f"conformance: the server of {model} did not start: {''.join(self.tail)}")
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stderr:
            self.tail.append(line)

    def metrics(self):
        """Each sample by its name, with its labels where it has some."""
        with urllib.request.urlopen(self.url + "/metrics", timeout=60) as response:
            lines = response.read().decode().splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line and line[0] != "#")}

    def resident(self):
        """Bytes of memory that are the process's own: no page of the model's file."""
        with open(f"/proc/{self.process.pid}/status") as file:
            found = re.search(r"RssAnon:\s+(\d+) kB", file.read())
        return int(found[1]) * 1024

    def stop(self):
        """The status that it ends with."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout=120)
        self.reader.join()
        self.process.stderr.close()
        return status


def tiny(name):
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "../data/tiny", name + ".gguf")
