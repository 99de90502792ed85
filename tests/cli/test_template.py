"""ferrum template. What the templates give is by their text; tests/unit/test_jinja and test_chat compare with jinja2."""
import json
import os
import unittest

from common import Case, ferrum, model, with_string_key

TEMPLATE = ("{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}{% if tools %}{{ tools|tojson }}{% endif %}"
            "{% if add_generation_prompt %}>{% endif %}{{ x }}")
MESSAGES = [{"role": "user", "content": "é <b>"}]


class Template(Case):
    def file(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as out:
            out.write(text)
        return path

    def text(self, *arguments, messages=MESSAGES):
        result = ferrum("template", *arguments, input=json.dumps(messages))
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return result.stdout

    def test_file(self):
        template = self.file("t.jinja", TEMPLATE)
        self.assertEqual(self.text(template), "[user]é <b>\n>")
        self.assertEqual(self.text(template, "--no-answer"), "[user]é <b>\n")
        self.assertEqual(self.text(template, "--var", 'bos_token="<s>"', "--var", "x=[1]"), "<s>[user]é <b>\n>[1]")
        messages, tools = self.file("m.json", json.dumps(MESSAGES)), self.file("tools.json", '[{"b":1,"a":"é"}]')
        self.assertEqual(self.text(template, "--messages", messages, "--tools", tools), '[user]é <b>\n[{"b": 1, "a": "é"}]>')

    def test_model(self):
        path = with_string_key(model("tiny-llama"), "tokenizer.chat_template", TEMPLATE, self.folder)
        bos = self.text(path).split("[")[0]
        self.assertEqual(self.text(path), bos + "[user]é <b>\n>")
        other = self.file("other.jinja", "other")
        self.assertEqual(self.text(path, "--chat-template", other), "other")
        self.fails(2, "leaves no place for --chat-template", arguments=["template", other, "--chat-template", other], input="[]")

    def test_tool_use(self):
        path = with_string_key(model("tiny-llama"), "tokenizer.chat_template", "plain", self.folder)
        path = with_string_key(path, "tokenizer.chat_template.tool_use", "tools", self.folder)
        tools = self.file("tools.json", "[]")
        self.assertEqual((self.text(path), self.text(path, "--tools", tools)), ("plain", "tools"))

    def test_failures(self):
        template = self.file("t.jinja", "{{ messages[0].nope.x }}")
        self.fails(1, "chat template, line 1: ", arguments=["template", template], input=json.dumps(MESSAGES))
        self.fails(1, "messages: an array is needed, not an object", arguments=["template", template], input="{}")
        self.fails(1, "-: line 1, column", arguments=["template", template], input="[")
        self.fails(1, "the file has no chat template", arguments=["template", model("tiny-llama")], input="[]")
        self.fails(1, "nowhere.jinja", arguments=["template", os.path.join(self.folder, "nowhere.jinja")], input="[]")


if __name__ == "__main__":
    unittest.main()
