"""Commands, options and their mistakes."""
import re
import sys
import unittest

from common import Case, ROOT, ferrum, model

LLAMA = model("tiny-llama")


class Usage(Case):
    def test_version(self):
        with open(ROOT + "/CMakeLists.txt") as file:
            version = re.search(r"project\(ferrum VERSION (\S+)", file.read())[1]
        result = ferrum("--version")
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, f"ferrum {version}\n", ""))

    def test_help(self):
        for arguments in ["--help"], ["-h"], ["help"]:
            result = ferrum(*arguments)
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            for word in "run", "perplexity", "inspect", "bench", "130 interrupted":
                self.assertIn(word, result.stdout)

    def test_help_of_commands(self):
        options = {"run": "max-tokens context threads temperature top-k top-p min-p repetition-penalty presence-penalty "
                          "frequency-penalty seed stop system "
                          "raw chat-template think no-think var json-schema regex grammar space ordered ignore-end device cpu kv pre json logprobs lookup verbose help",
                   "perplexity": "ids tokens json logits top threads device cpu kv pre verbose help",
                   "inspect": "context tensors json threads device cpu kv pre verbose help",
                   "pull": "help", "list": "aliases json help", "rm": "yes help", "completion": "help",
                   "grammar": "kind model space ordered help",
                   "template": "messages tools no-answer chat-template think no-think var help",
                   "bench": "n-prompt n-gen n-depth n-parallel repetitions output shape estimate server rate requests api-key model completions ignore-end slo-ttft slo-tbt timeout seed threads device cpu kv pre verbose help",
                   "tokenize": "no-special parse-special pieces json null pre help",
                   "detokenize": "no-special json pre help"}
        for command, names in options.items():
            result = ferrum(command, "--help")
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            self.assertEqual(sorted(re.findall(r"^ .*?--([a-z-]+)", result.stdout, re.M)), sorted(names.split()))
            self.assertIn("130 interrupted", result.stdout)
            self.assertLessEqual(max(map(len, result.stdout.splitlines())), 81)
            for other in ["help", command], [command, "-h"], [command, *[LLAMA][command == "list":], "--help"]:
                self.assertEqual(ferrum(*other).stdout, result.stdout)

    def test_no_command(self):
        result = ferrum()
        self.assertEqual((result.returncode, result.stdout), (2, ""))
        self.assertIn("usage: ferrum", result.stderr)

    def test_unknown_command(self):
        for given, nearest in ("rnu", "run"), ("perplex", "perplexity"), ("inspekt", "inspect"), ("--versoin", "--version"):
            self.fails(2, f"unknown command {given}; the nearest is {nearest} ", arguments=[given])
        self.fails(2, "unknown command rnu; the nearest is run ", arguments=["help", "rnu"])

    def test_unknown_option(self):
        for given, nearest in (("--tempreature", "temperature"), ("--temp", "temperature"), ("--max_tokens", "max-tokens"),
                               ("--sead=3", "seed"), ("--topp", "top-p"), ("--jsn", "json"), ("--hlep", "help"),
                               ("--logprob", "logprobs"), ("--repeat-penalty", "repetition-penalty")):
            self.fails(2, f"ferrum run: unknown option {given.split('=')[0]}; the nearest is --{nearest} ",
                       arguments=["run", given, LLAMA, "x"])
        self.fails(2, "unknown option -z; the nearest is --", arguments=["run", LLAMA, "-z"])
        self.fails(2, "unknown option --tensor; the nearest is --tensors ", arguments=["inspect", LLAMA, "--tensor"])

    def test_values(self):
        for given, sentence in ((["--top-p", "1.5"], "--top-p is 1.5; it must be above 0 and at most 1"),
                                (["--top-p=0"], "--top-p is 0; it must be above 0 and at most 1"),
                                (["--presence-penalty", "x"], "--presence-penalty is x; it must be a number"),
                                (["--min-p", "-0.1"], "--min-p is -0.1; it must be at least 0 and at most 1"),
                                (["--temperature", "-1"], "--temperature is -1; it must be a number at least 0"),
                                (["--temperature", "nan"], "--temperature is nan; it must be a number at least 0"),
                                (["--temperature", "1e999"], "--temperature is 1e999; it must be"),
                                (["--temperature=0.5x"], "--temperature is 0.5x; it must be"),
                                (["--temperature="], "--temperature is ; it must be"),
                                (["--repetition-penalty", "0"], "--repetition-penalty is 0; it must be a number above 0"),
                                (["-n", "0"], "--max-tokens is 0; it must be a whole number from 1 to 4294967295"),
                                (["-n5x"], "--max-tokens is 5x; it must be a whole number"),
                                (["-n", "+5"], "--max-tokens is +5; it must be a whole number"),
                                (["-n", "4294967296"], "--max-tokens is 4294967296; it must be"),
                                (["-n", "99999999999999999999999"], "it must be a whole number"),
                                (["--seed", "-1"], "--seed is -1; it must be a whole number from 0 to"),
                                (["--threads", "0"], "--threads is 0; it must be a whole number from 1 to 1024"),
                                (["--logprobs", "101"], "--logprobs is 101; it must be a whole number from 0 to 100"),
                                (["--kv", "q4_0"], "--kv is q4_0; it must be f16 or q8_0"),
                                (["--json=yes"], "--json takes no value")):
            self.fails(2, "ferrum run: ", sentence, arguments=["run", LLAMA, "x", *given])

    @unittest.skipIf(sys.platform == "darwin", "the build has Metal")
    def test_device_that_the_build_lacks(self):
        self.fails(1, 'ferrum run: there is no device "metal"; this build has: cpu, ref',
                   arguments=["run", LLAMA, "x", "--device", "metal"])

    def test_device_that_no_build_has(self):
        for name in "gpu", "cpu:1", "cuda:", "cuda:1x", "cud", "":
            self.fails(2, f"ferrum run: --device is {name}; it must be cpu, cuda, metal or ref",
                       arguments=["run", LLAMA, "x", "--device", name])

    def test_letter_of_a_flag(self):
        self.fails(2, "ferrum rm: -y takes no value", arguments=["rm", "-yes", "x"])

    def test_missing_values(self):
        self.fails(2, "--seed needs a value: N", arguments=["run", LLAMA, "x", "--seed"])
        self.fails(2, "-n needs a value: N", arguments=["run", LLAMA, "x", "-n"])

    def test_arguments(self):
        self.fails(2, "an argument is missing", "MODEL [PROMPT]", arguments=["run"])
        self.fails(2, "one argument too many: z", arguments=["run", LLAMA, "x y", "z"])
        self.fails(2, "TEXTFILE or --ids is missing", arguments=["perplexity", LLAMA])
        self.fails(2, "TEXTFILE and --ids exclude each other", arguments=["perplexity", LLAMA, "a", "--ids", "b"])
        self.fails(2, "ferrum: one argument too many: x (usage: ferrum --version)", arguments=["--version", "x"])
        for helps in "help", "--help", "-h":
            self.fails(2, "ferrum: one argument too many: x (usage: ferrum help COMMAND)", arguments=[helps, "run", "x"])

    def test_empty_names(self):
        for arguments in (["run", "", "x"], ["perplexity", "", LLAMA], ["inspect", ""], ["bench", ""], ["embed", "", "x"],
                          ["serve", ""], ["template", ""], ["tokenize", "", "x"], ["quantize", "", "x.gguf", "q8_0"],
                          ["pull", ""], ["rm", ""]):
            self.fails(2, f"ferrum {arguments[0]}: the model's name is empty", arguments=arguments, input="[]")
        for arguments in ["perplexity", LLAMA, ""], ["run", "--raw", LLAMA, "x", "--json-schema", ""], ["grammar", "check", "-k", "grammar", ""]:
            self.fails(2, "the name of a file is empty", arguments=arguments)

    def test_combinations(self):
        self.fails(2, "--logprobs is told in JSON only", arguments=["run", LLAMA, "x", "--logprobs", "2"])
        self.fails(2, "--logits is told in JSON only", arguments=["perplexity", LLAMA, "--ids", "-", "--logits"])
        self.fails(2, "--raw leaves no place for --system", arguments=["run", LLAMA, "x", "--raw", "--system", "y"])

    def test_repeated_too_often(self):
        self.fails(2, "--stop is given more than 32 times", arguments=["run", LLAMA, "x", *["--stop=x"] * 33])

    def test_two_dashes_end_the_options(self):
        result = ferrum("run", "-n1", "--temperature=0", "--", LLAMA, "--json")
        self.assertEqual(result.returncode, 0, result.stderr)


if __name__ == "__main__":
    unittest.main()
