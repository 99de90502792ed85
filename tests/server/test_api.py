"""The server's routes and parameters, from outside."""
import json
import subprocess

from server import CHAT, COMPLETIONS, PROGRAM, ServerCase, main, user


class Api(ServerCase):
    def chat(self, text="hello", **body):
        return self.server.post(CHAT, dict({"messages": user(text), "max_tokens": 8, "seed": 1}, **body))

    def complete(self, prompt="hello", **body):
        return self.server.post(COMPLETIONS, dict({"prompt": prompt, "max_tokens": 8, "seed": 1}, **body))

    def test_models_and_health(self):
        models = self.server.request("GET", "/v1/models")[2]
        self.assertEqual([m["id"] for m in models["data"]], ["tiny"])
        self.assertEqual(self.server.request("GET", "/v1/models/tiny")[2], models["data"][0])
        self.assertEqual(self.server.request("GET", "/v1/models/other")[0], 404)
        self.assertEqual(self.server.request("GET", "/health")[::2], (200, {"status": "ready"}))
        self.assertEqual(self.server.request("HEAD", "/health")[0], 200)

    def test_a_chat_is_what_the_program_answers(self):
        answer = self.chat(temperature=0)
        self.assertEqual((answer["object"], answer["model"]), ("chat.completion", "tiny"))
        choice, = answer["choices"]
        out = subprocess.run([PROGRAM, "run", "--json", "--temperature", "0", "-n", "8", self.path, "hello"],
                             capture_output=True, check=True).stdout
        run = json.loads(out)
        self.assertEqual(choice["message"], {"role": "assistant", "content": run["text"]})
        self.assertEqual(choice["finish_reason"], run["finish_reason"])
        self.assertEqual(answer["usage"]["prompt_tokens"], len(run["prompt_tokens"]))
        self.assertEqual(answer["usage"]["completion_tokens"], len(run["tokens"]))
        self.assertEqual(answer["usage"]["total_tokens"], len(run["prompt_tokens"]) + len(run["tokens"]))

    def test_a_stream_is_the_same_in_pieces(self):
        whole = self.chat(temperature=1, n=2, logprobs=True, top_logprobs=3)
        events = self.server.stream(CHAT, messages=user("hello"), max_tokens=8, seed=1, temperature=1, n=2,
                                    logprobs=True, top_logprobs=3, stream_options={"include_usage": True})
        self.assertEqual({e["id"] for e in events}, {events[0]["id"]})
        self.assertEqual(events[-1]["choices"], [])
        self.assertEqual(events[-1]["usage"]["completion_tokens"], whole["usage"]["completion_tokens"])
        for index, choice in enumerate(whole["choices"]):
            mine = [e["choices"][0] for e in events[:-1] if e["choices"][0]["index"] == index]
            self.assertEqual(mine[0]["delta"], {"role": "assistant", "content": ""})
            text = "".join(c["delta"].get("content", "") for c in mine)
            self.assertEqual(text, choice["message"]["content"])
            tokens = sum(((c["logprobs"] or {}).get("content", []) for c in mine), [])
            self.assertEqual(tokens, choice["logprobs"]["content"])
            self.assertEqual([c["finish_reason"] for c in mine[:-1]], [None] * (len(mine) - 1))
            self.assertEqual(mine[-1]["finish_reason"], choice["finish_reason"])

    def test_a_completion_takes_every_form_of_prompt(self):
        ids = self.server.post("/tokenize", {"content": "hello", "add_special": True})["tokens"]
        one = self.complete(temperature=0)
        self.assertEqual(one["object"], "text_completion")
        text = one["choices"][0]["text"]
        self.assertEqual(self.complete(ids, temperature=0)["choices"][0]["text"], text)
        many = self.complete(["hello", "hello"], temperature=0)
        self.assertEqual([c["text"] for c in many["choices"]], [text, text])
        self.assertEqual([c["index"] for c in many["choices"]], [0, 1])
        self.assertEqual(self.complete([ids], temperature=0)["choices"][0]["text"], text)
        self.assertEqual(self.complete(temperature=0, echo=True)["choices"][0]["text"], "hello" + text)

    def test_the_seed_decides(self):
        same = [self.complete(temperature=1.5, seed=7)["choices"][0]["text"] for _ in range(2)]
        self.assertEqual(same[0], same[1])
        others = {self.complete(temperature=1.5, seed=s)["choices"][0]["text"] for s in range(8)}
        self.assertGreater(len(others), 1)

    def test_stop_strings_and_lengths(self):
        text = self.complete(temperature=0, max_tokens=16)["choices"][0]["text"]
        stop = max(text.split(), key=lambda w: w.isascii() * len(w))
        self.assertTrue(stop.isascii(), text)
        answer = self.complete(temperature=0, max_tokens=16, stop=[stop])["choices"][0]
        self.assertEqual((answer["text"], answer["finish_reason"]), (text[:text.index(stop)], "stop"))
        self.assertEqual(self.complete(max_tokens=3)["usage"]["completion_tokens"], 3)

    def test_a_biased_token_comes_or_stays_away(self):
        answer = self.complete(temperature=0, max_tokens=4, logit_bias={"40": 100})
        piece = self.server.post("/detokenize", {"tokens": [40]})["content"]
        self.assertEqual(answer["choices"][0]["text"], piece * 4)

    def test_tokens_and_templates(self):
        pieces = self.server.post("/tokenize", {"content": "hello you", "with_pieces": True})["tokens"]
        self.assertEqual("".join(p["piece"] for p in pieces), "hello you")
        ids = [p["id"] for p in pieces]
        self.assertEqual(self.server.post("/detokenize", {"tokens": ids}), {"content": "hello you"})
        prompt = self.server.post("/apply-template", {"messages": user("x")})["prompt"]
        self.assertEqual(prompt, "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n")


main()
