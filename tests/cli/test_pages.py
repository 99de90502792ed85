"""Manual pages and completions: every command and option of the help is in them, and the tools that read them take them."""
import os
import re
import shutil
import subprocess
import unittest

from common import PROGRAM, TIMEOUT, Case, ferrum

BASH = r"""
source "$1"
COMP_LINE=$2 COMP_POINT=${#2}
_ferrum
printf '%s\n' "${COMPREPLY[@]}"
"""


def commands():
    """By the program's help; `help` has no table of its own."""
    return [name for name in re.findall(r"^  ([a-z]+) ", ferrum("--help").stdout, re.M) if name != "help"]


def options(command):
    """Name, letter or "", and whether it takes a value, by the command's help."""
    found = re.findall(r"^  (?:-(\w),|   ) --([a-z0-9-]+)(?: ([A-Z]\S*))?(?: |$)", ferrum("help", command).stdout, re.M)
    return [(name, letter, bool(argument)) for letter, name, argument in found]


class Pages(Case):
    def setUp(self):
        super().setUp()
        result = ferrum("help", "--pages", self.folder)
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "", ""))
        self.man = os.path.join(self.folder, "man", "man1")
        share = os.path.join(self.folder, "share")
        self.shells = {"bash": os.path.join(share, "bash-completion", "completions", "ferrum"),
                       "zsh": os.path.join(share, "zsh", "site-functions", "_ferrum"),
                       "fish": os.path.join(share, "fish", "vendor_completions.d", "ferrum.fish")}

    def text(self, path):
        with open(path) as file:
            return file.read()

    def need(self, tool):
        if not shutil.which(tool):
            self.skipTest(f"{tool} is not installed")

    def command(self, *arguments, **options_):
        result = subprocess.run(arguments, capture_output=True, text=True, timeout=TIMEOUT, **options_)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        return result.stdout

    def test_there_is_a_page_of_every_command(self):
        names = commands()
        self.assertIn("run", names)
        self.assertEqual(sorted(os.listdir(self.man)), sorted(["ferrum.1", *(f"ferrum-{name}.1" for name in names)]))
        main = self.text(os.path.join(self.man, "ferrum.1"))
        for name in names:
            self.assertIn(f"\\fB{name}\\fR", main)
            self.assertIn(f".BR ferrum\\-{name} (1)", main)

    def test_every_option_is_in_the_pages_and_completions(self):
        completions = {shell: self.text(path) for shell, path in self.shells.items()}
        for command in commands():
            page = self.text(os.path.join(self.man, f"ferrum-{command}.1"))
            bash = re.search(rf"^  {command}\)\s+echo '([^']*)'", completions["bash"], re.M)[1].split()
            zsh = re.search(rf"^  {command}\)\n(.*?);;", completions["zsh"], re.M | re.S)[1]
            fish = "".join(re.findall(rf"^complete -c ferrum -n '__fish_seen_subcommand_from {command}' .*\n", completions["fish"], re.M))
            self.assertIn("help", [name for name, _, _ in options(command)])
            for name, letter, _ in options(command):
                self.assertIn("\\fB\\-\\-" + name.replace("-", "\\-") + "\\fR", page)
                self.assertIn("--" + name, bash)
                self.assertRegex(zsh, rf"--{name}\b")
                self.assertRegex(fish, rf" -l {name} ")
                if letter:
                    self.assertIn(f"\\fB\\-{letter}\\fR", page)
                    self.assertIn("-" + letter, bash)

    def test_the_command_prints_the_same(self):
        for shell, path in self.shells.items():
            self.assertEqual(ferrum("completion", shell).stdout, self.text(path))
        self.fails(2, "not for sh", arguments=["completion", "sh"])

    def test_mandoc(self):
        self.need("mandoc")
        for name in sorted(os.listdir(self.man)):
            self.assertEqual(self.command("mandoc", "-Tlint", "-Wwarning", os.path.join(self.man, name)), "")

    def test_man(self):
        self.need("man")
        for name in sorted(os.listdir(self.man)):
            result = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", os.path.join(self.man, name)],
                                    stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT,
                                    env={**os.environ, "LC_ALL": "C.UTF-8", "MANROFFSEQ": ""})
            self.assertEqual((result.returncode, result.stderr), (0, ""))

    def test_text_of_a_page(self):
        """As a reader sees it: no request or escape of roff is left, and the help's words are all there."""
        self.need("mandoc")
        for command in commands():
            page = self.command("mandoc", "-Tutf8", "-Owidth=400", os.path.join(self.man, f"ferrum-{command}.1"))
            words = re.sub(r".\x08", "", page).split()
            for name, _, _ in options(command):
                self.assertIn("--" + name, words)
            details = ferrum("help", command).stdout.split("\n\nMODEL is a path")[0].split("\n\n", 3)[-1].split("\nExit status")[0]
            for word in details.split():
                self.assertIn(word, words)

    def complete(self, line):
        folder = os.path.join(self.folder, "bin")
        os.makedirs(folder, exist_ok=True)
        if not os.path.exists(folder + "/ferrum"):
            os.symlink(PROGRAM, folder + "/ferrum")
        env = {**os.environ, "PATH": folder + ":" + os.environ["PATH"], "HF_HOME": os.path.join(self.folder, "hf"),
               "XDG_CACHE_HOME": self.folder, "HF_HUB_CACHE": ""}
        return self.command("bash", "-c", BASH, "bash", self.shells["bash"], line, env=env, cwd=self.folder).splitlines()

    def test_bash(self):
        self.need("bash")
        os.makedirs(os.path.join(self.folder, "ferrum", "models"))
        self.file("ferrum/models/smollm2.gguf", "x")
        self.file("my-model.gguf", "x")
        hub = os.path.join(self.folder, "hf", "hub", "models--a--B", "snapshots", "0" * 40)
        os.makedirs(hub)
        with open(hub + "/B-Q8_0.gguf", "w") as file:
            file.write("x")
        names = commands()
        for line, expected in (("ferrum ", [*names, "help", "--help", "--version"]), ("ferrum pe", ["perplexity"]),
                               ("ferrum help ins", ["inspect"]), ("ferrum run --temp", ["--temperature"]),
                               ("ferrum run --kv ", ["f16", "q8_0"]), ("ferrum run --kv q", ["q8_0"]),
                               ("ferrum run --kv=q", ["q8_0"]), ("ferrum run --kv  f", ["f16"]),
                               ("ferrum run x --verb", ["--verbose"]), ("ferrum completion ", ["bash", "zsh", "fish"]),
                               ("ferrum run my", ["my-model.gguf"]), ("ferrum rm -", ["--yes", "-y", "--help", "-h"]),
                               ("ferrum pull my", []), ("ferrum run --system my", ["my-model.gguf"]),
                               ("ferrum list ", []), ("ferrum nonsense ", [])):
            self.assertEqual([x for x in self.complete(line) if x], expected, line)
        self.assertIn("4b", self.complete("ferrum run qwen3:"))  # readline keeps what stands before the colon
        self.assertIn("gemma3:270m", self.complete("ferrum pull gem"))
        self.assertEqual(self.complete("ferrum rm a/"), ["a/B:Q8_0"])
        self.assertEqual(self.complete("ferrum rm a/B:Q"), ["Q8_0"])

    def test_bash_options(self):
        self.need("bash")
        for command in commands():
            self.assertEqual(set(self.complete(f"ferrum {command} -")),
                             {x for name, letter, _ in options(command) for x in ("--" + name, letter and "-" + letter) if x})

    def test_syntax(self):
        shells = [shell for shell in self.shells if shutil.which(shell)]
        for shell in shells:
            self.command(shell, "-n", self.shells[shell])
        if len(shells) < len(self.shells):
            self.skipTest(f"of the shells only {', '.join(shells)} are installed")

    def test_fish(self):
        self.need("fish")
        for line, expected in (("ferrum pe", "perplexity"), ("ferrum run --kv q", "q8_0"), ("ferrum pull gemma3:2", "gemma3:270m")):
            out = self.command("fish", "--no-config", "-c", f"source {self.shells['fish']}; complete -C '{line}'",
                               env={**os.environ, "HOME": self.folder})
            self.assertIn(expected, [row.split("\t")[0] for row in out.splitlines()])

    def test_zsh(self):
        """Loaded as zsh loads it, the function is there and its specifications are understood."""
        self.need("zsh")
        script = ("autoload -U compinit; compinit -u -D; source $1; (( $+functions[_ferrum] )) && echo ${_comps[ferrum]}")
        self.assertEqual(self.command("zsh", "-f", "-c", script, "zsh", self.shells["zsh"],
                                      env={**os.environ, "HOME": self.folder}).strip(), "_ferrum")


if __name__ == "__main__":
    unittest.main()
