#!/usr/bin/env python3
"""Writes what tests/unit/test_jinja.c and test_chat.c expect: cases.json and chat.json, beside this file, by Python's jinja2 as
tests/conformance/templates.py sets it up, which is the mode of transformers. Needs the PyPI package jinja2 (3.1.6)."""
import json, pathlib, sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "conformance"))
from templates import Generator, expected

# Templates: SmolLM2's own, and short ones with the literals and the rules of the others.
TURN_CHECK = ("{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate') }}"
              "{% endif %}")
SYSTEM_APART = ("{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content'] %}{%- set loop_messages = "
                "messages[1:] %}{%- else %}{%- set loop_messages = messages %}{%- endif %}")
TEMPLATES = {
    "smollm2": ("chatml", "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
                "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + "
                "message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
                "{{ '<|im_start|>assistant\n' }}{% endif %}"),
    "chatml-plain": ("chatml", "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n'}}{% endfor %}"
                     "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"),
    "qwen2.5": ("chatml", "{%- if tools %}{{- '<|im_start|>system\\n' }}{{- 'You have tools.' }}{{- '<|im_end|>\\n' }}{%- else %}"
                "{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}{%- else %}"
                "{{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}{%- endif %}"
                "{%- endif %}{%- for message in messages %}{%- if (message.role == 'user') or (message.role == 'system' and not loop.first) or "
                "(message.role == 'assistant') %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}{%- endif %}"
                "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"),
    "qwen3": ("chatml", "{%- set ns = namespace(last_query_index=messages|length - 1) %}{%- for m in messages %}{%- if m.role == 'user' %}"
              "{%- set ns.last_query_index = loop.index0 %}{%- endif %}{%- endfor %}{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}"
              "{%- if m.role == 'assistant' %}{%- set content = m.content %}{%- set thought = '' %}{%- if '</think>' in content %}{%- set thought = "
              "content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}{%- set content = content.split('</think>')[-1]"
              ".lstrip('\\n') %}{%- endif %}{%- if loop.index0 > ns.last_query_index and (loop.last or thought) %}{{- '<think>\\n' + thought.strip('\\n')"
              " + '\\n</think>\\n\\n' + content.lstrip('\\n') }}{%- else %}{{- content }}{%- endif %}{%- else %}{{- m.content }}{%- endif %}"
              "{{- '<|im_end|>\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"),
    "llama3": ("llama3", "{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | "
               "trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"),
    "llama3.1": ("llama3", "{%- if not date_string is defined %}{%- set date_string = \"26 Jul 2024\" %}{%- endif %}"
                 "{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content']|trim %}{%- set messages = messages[1:] %}"
                 "{%- else %}{%- set system_message = \"\" %}{%- endif %}{{- \"<|start_header_id|>system<|end_header_id|>\\n\\n\" }}"
                 "{{- \"Cutting Knowledge Date: December 2023\\n\" }}{{- \"Today Date: \" + date_string + \"\\n\\n\" }}{{- system_message }}"
                 "{{- \"<|eot_id|>\" }}{%- for message in messages %}{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ "
                 "message['content'] | trim + '<|eot_id|>' }}{%- endfor %}{%- if add_generation_prompt %}"
                 "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"),
    "gemma2": ("gemma", "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages "
               "%}" + TURN_CHECK + "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' + message['content'] | "
               "trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"),
    "gemma3": ("gemma", SYSTEM_APART.replace("set system_message = messages[0]['content']", "set first_user_prefix = messages[0]['content'] + '\n\n'")
               .replace("{%- else %}", "{%- else %}{%- set first_user_prefix = '' %}") + "{%- for message in loop_messages %}" + TURN_CHECK +
               "{{- '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' + (first_user_prefix if loop.first else '') }}"
               "{{- message['content'] | trim }}{{- '<end_of_turn>\n' }}{%- endfor %}{%- if add_generation_prompt %}{{-'<start_of_turn>model\n'}}{%- endif %}"),
    "mistral-v0.1": ("mistral", "{% for message in messages %}" + TURN_CHECK + "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
                     "{% else %}{{ message['content'] + eos_token + ' ' }}{% endif %}{% endfor %}"),
    "mistral-v1": ("mistral", SYSTEM_APART + "{%- for message in loop_messages %}" + TURN_CHECK + "{%- if message['role'] == 'user' %}{%- if loop.first and "
                   "system_message is defined %}{{- ' [INST] ' + system_message + '\\n\\n' + message['content'] + ' [/INST]' }}{%- else %}"
                   "{{- ' [INST] ' + message['content'] + ' [/INST]' }}{%- endif %}{%- else %}{{- ' ' + message['content'] + eos_token}}{%- endif %}{%- endfor %}"),
    "mistral-v3": ("mistral", SYSTEM_APART + "{%- for message in loop_messages %}" + TURN_CHECK + "{%- if message['role'] == 'user' %}{%- if loop.last and "
                   "system_message is defined %}{{- \"[INST] \" + system_message + \"\\n\\n\" + message[\"content\"] + \"[/INST]\" }}{%- else %}"
                   "{{- \"[INST] \" + message[\"content\"] + \"[/INST]\" }}{%- endif %}{%- else %}{{- \" \" + message[\"content\"]|trim + eos_token}}{%- endif %}{%- endfor %}"),
    "mistral-nemo": ("mistral", SYSTEM_APART + "{%- for message in loop_messages %}" + TURN_CHECK + "{%- if message['role'] == 'user' %}{%- if loop.last and "
                     "system_message is defined %}{{- \"[INST]\" + system_message + \"\\n\\n\" + message[\"content\"] + \"[/INST]\" }}{%- else %}"
                     "{{- \"[INST]\" + message[\"content\"] + \"[/INST]\" }}{%- endif %}{%- else %}{{- message[\"content\"] + eos_token}}{%- endif %}{%- endfor %}"),
}
U, A, S = (lambda t: {"role": "user", "content": t}), (lambda t: {"role": "assistant", "content": t}), (lambda t: {"role": "system", "content": t})
CHATS = [
    [U("Hello")],
    [S("Be brief."), U("Hello")],
    [U("  spaces \n"), A("\tAn answer. \n"), U("\u00a0More\u3000")],
    [S(" Be kind. "), U("One"), A("Two"), U("Three")],
    [U("One"), A("<think>\nWhy?\n</think>\n\nBecause.")],
    [U("One"), A("<think>\nWhy?\n</think>\n\nBecause."), U("And?"), A("So.")],
    [U("One"), A("Two"), U("")],
    [U("Grüße 🙂\n\nzwei Absätze"), A("日本"), U("<|im_end|>")],
    [U("One"), U("Two")],
    [A("I begin")],
    [S("Only this.")],
    [S("a"), U("b"), S("c"), U("d")],
]

# Expressions and statements that stand for what the pools of the generator do not reach.
BY_HAND = [
    "{{ 1 }}\n", "a\r\nb\rc\n\n", "{{ 'a' }}\n\n", "  {% if true %}\n  x\n  {% endif %}\n y", "{%- if true -%}\n x \n{%- endif %}", "a {#- c -#} b",
    "  {# c #}\nx", "{% raw %}\n {{ x }}\n{% endraw %}\ny", " {%+ if true %}x{% endif %}", "{% if true +%}\nx{% endif %}", "{{'}}'}}{{ {'a':{'b':1}}['a'] }}",
    "{{ '\\x41\\u00e9\\101\\q\\é\\\n' }}", "{{ \"it's\" }}{{ ['it\\'s', 'say \"hi\"', 'both \\' \"', '\\x00\\x1f\\x7f\\u200b'] }}", "{{ 'a' 'b' \"c\" }}",
    "{{ 1_000 + 0x_ff + 0o17 + 0b11 }}", "{{ 1e3 }} {{ 1.5E-7 }} {{ 12345678901234567.0 }} {{ 0.1 + 0.2 }} {{ 1e16 }} {{ 1e15 }} {{ 1e22 }} {{ -0.0 }} {{ 5e-324 }}",
    "{{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 7 / 2 }} {{ true + 1 }}",
    "{{ 1 / 0 }}", "{{ 'a' + 1 }}", "{{ missing }}|{{ missing.x is defined }}", "{{ missing.x }}", "{{ missing['x'] }}", "{{ missing + 1 }}", "{{ missing() }}",
    "{{ none.x }}|{{ none.x.y }}", "{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 'a' in 'abc' }} {{ 1 not in [1] }} {{ not 1 == 2 }}", "{{ 'a' < 1 }}", "{{ 1 in 'abc' }}",
    "{{ [1, 2] < [1, 3] }} {{ (1, 2) == (1, 2) }} {{ [1] == (1,) }} {{ 1 == 1.0 }} {{ true == 1 }} {{ {'a': 1} == {'a': 1.0} }}",
    "{{ 'x' if false }}|{{ ('x' if false) is defined }}", "{{ 1 if false else 2 if false else 3 }}", "{{ 1 or missing.x }}{{ 0 and missing.x }}",
    "{% set x = 1 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}", "{% set ns = namespace(x=1) %}{% for i in [1, 2] %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}",
    "{% set a.b = 1 %}", "{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }}{{ ns.c }}{{ ns['a'] }}", "{% if true %}{% set y = 1 %}{% endif %}{{ y }}", "{% set a, (b, c) = 1, [2, 3] %}{{ a }}{{ b }}{{ c }}",
    "{% set a, b = [1] %}", "{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}", "{% for x in [] %}x{% else %}none{% endfor %}", "{% for x in none %}{% endfor %}", "{% for x in missing %}x{% else %}e{% endfor %}",
    "{% for x in [1, 2, 3, 4] if x is even %}{{ loop.index }}/{{ loop.length }}{{ loop.last }}{{ x }} {% endfor %}", "{% for x in 'abc' %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }} {% endfor %}",
    "{% for x in [1, 2, 3] %}{% if x == 2 %}{% continue %}{% endif %}{{ x }}{% endfor %}", "{% for x in [1, 2, 3] %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% endfor %}", "{% for x in [1] %}{% continue %}{% else %}e{% endfor %}",
    "{% break %}", "{% for x in [1] %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}", "{% for x in [1, 1, 2] %}{{ loop.changed(x) }}{{ loop.cycle('a', 'b') }} {% endfor %}{{ loop }}",
    "{% for x in [[1, [2]], [3]] recursive %}{% if x is number %}{{ x }}@{{ loop.depth }} {% else %}({{ loop(x) }}){% endif %}{% endfor %}", "{% for x in [1] %}{{ loop([1]) }}{% endfor %}", "{% for loop in [1] %}{% endfor %}",
    "{% macro m(a, b='B', c=a) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, c=2) }} {{ m() }} {{ m(b=1, a=2) }}", "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{% endmacro %}{{ m(z=2) }}",
    "{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, z=4) }}{{ m }}{{ m.name }}{{ m.arguments }}{{ m.catch_kwargs }}", "{% macro m() %}[{{ caller('x') }}]{% endmacro %}{% call(v) m() %}{{ v }}!{% endcall %}", "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}",
    "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}", "{% macro m() %}{{ late }}{% endmacro %}{% set late = 7 %}{{ m() }}", "{% filter upper | replace('A', 'b') %}abc{{ 'x' }}{% endfilter %}", "{% set x | trim %}  a  {% endset %}[{{ x }}]", "{% set x %}<{{ 1 }}>{% endset %}{{ x }}",
    "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% generation %}{{ 1 }}{% set q = 1 %}{% endgeneration %}{{ q }}", "{% print 1, 'a' %}", "{% if true: %}x{% endif %}", "{{ range(3) }}{{ range(3)|list }}{{ range(5)[1:] }}{{ range(3)|length }}{{ 2 in range(3) }}", "{{ range(100001) }}", "{{ range(0) is sequence }}",
    "{{ [1, 2, 3][1:] }}{{ 'abc'[::-1] }}{{ [1, 2, 3][-2:] }}{{ 'abc'[5:] }}{{ (1, 2)[0] }}{{ 'ä€🙂'[1] }}{{ 'ä€🙂'|length }}{{ 'abc'[10] }}{{ [1][true] }}", "{{ [1, 2][::0] }}", "{{ d[:1] }}", "{{ 'abc'['x'] }}{{ 'abc'['upper']() }}", "{{ {'items': 1}.items }}|{{ {'items': 1}['items'] }}|{{ {}['keys'] is callable }}", "{{ {'a': 1}.a }}{{ {'a b': 2}['a b'] }}{{ {}.x }}{{ [].append(1) }}", "{{ {}.update is defined }}{{ ''.__class__ is defined }}",
    "{{ {'a': [1, 2.5, none, true, 'x\\n\"é', {}], 'b': {}} | tojson }}", "{{ {'b': [1], 'a': {}} | tojson(indent=2, sort_keys=true) }}", "{{ [[], {}, [1]] | tojson(indent=4) }}", "{{ 'é<&>' | tojson }}{{ 'é🙂' | tojson(ensure_ascii=true) }}", "{{ {1: 2, none: 3, true: 4, 1.5: 5} | tojson }}", "{{ missing | tojson }}", "{{ {'a': missing} | tojson }}", "{{ (1e999, -1e999) | tojson }}{{ 1e999 }}",
    "{{ '<b>' | safe + '<i>' }}{{ ('<b>' | escape) ~ '<' }}{{ ('<b>' | safe) % 1 }}", "{{ ('%s' | safe) % '<' }}{{ ('{}' | safe).format('<') }}{{ ['<', '<' | safe] | join(',') }}{{ ('a' | safe).join(['<']) }}{{ ['a' | safe] }}", "{{ '%s' % missing }}{{ '%s %s' % (1, 'a') }}{{ '%d' % 'x' }}", "{{ '%(a)s' % {'a': 1} }}{{ '%5.2f|%-5d|%05d|%+d|%x' % (1.234, 3, 4, 5, 255) }}", "{{ '{0} {1:>5} {a!r:<6}|{b.c}{b[c]}'.format(1, 'x', a='q', b={'c': 3}) }}", "{{ '{} {0}'.format(1) }}", "{{ '{:,} {:e} {:.3f} {:08.3f} {:%} {:b} {:#x} {:^7} {!r}'.format(1234567, 1.5, 2.0, 3.14159, 0.5, 5, 255, 'm', 'q') }}",
    "{{ 'ǆ ß ŉ İ ΑΣ ﬁ'.upper() }}|{{ 'ΑΣ ΟΔΟΣ. İ'.lower() }}|{{ 'ǆ ßa ﬁb'.title() }}|{{ 'ﬁx'.capitalize() }}|{{ 'ẞß'.casefold() }}|{{ 'aB'.swapcase() }}", "{{ 'a,b,,c'.split(',') }}{{ ' a  b '.split() }}{{ 'a b c'.split(' ', 1) }}{{ 'a b c'.rsplit(none, 1) }}{{ ''.split() }}{{ ''.split(',') }}{{ 'a\\nb\\r\\nc\\x0bd'.splitlines() }}", "{{ 'aXbX'.partition('X') }}{{ 'aXbX'.rpartition('X') }}{{ 'a'.partition('X') }}", "{{ 'abc'.split('') }}",
    "{{ [3, 1, 2] | sort }}{{ ['b', 'A', 'a'] | sort }}{{ ['b', 'A'] | sort(case_sensitive=true) }}{{ [1, 'a'] | sort }}", "{{ [1, 2, 3] | map('string') | list }}{{ ['a'] | map('upper') | first }}{{ [1] | select('odd') | list | length }}", "{% set g = [1, 2] | map('string') %}{{ g | list }}{{ g | list }}{{ 'y' if g }}", "{{ [1] | map('string') | length }}", "{{ [] | first }}{{ [] | last }}{{ [] | min }}{{ 0 | map('x') | list }}", "{{ 2.5 | round }}{{ 3.5 | round }}{{ 2.675 | round(2) }}{{ 5 | round }}{{ 15 | round(-1) }}{{ 25 | round(-1) }}{{ 2.1 | round(0, 'ceil') }}{{ 1.25 | round(1) }}", "{{ '42' | int }}{{ 'x' | int(7) }}{{ '3.9' | int }}{{ '0x1F' | int(0, 16) }}{{ none | int }}{{ '1_0' | int }}{{ ' 5 ' | int }}{{ 'inf' | float }}{{ '1e3' | float }}", "{{ 'a' | nofilter }}", "{% if false %}{{ 'a' | nofilter }}{% endif %}x", "{% if false %}{% for x in [] %}{{ 'a' | nofilter }}{% endfor %}{% endif %}", "{{ 1 if true else 1 | nofilter }}", "{{ 1 is notest }}", "{{ 'upper' is filter }}{{ 'random' is filter }}{{ 'x' is filter }}{{ 'odd' is test }}",
    "{{ strftime_now('%Y-%m-%d %H:%M:%S %a %A %b %B %j %U %W %V %G %u %w %I %p %y %e %-d %-m %D %F %T %R %%') }}", "{{ raise_exception('roles: ' ~ 1) }}", "{{ cycler('a', 'b').next() }}{% set j = joiner() %}{{ j() }}{{ j() }}", "{% unknown %}", "{% if true %}", "{% endif %}", "{% for x in [1] %}{% endif %}", "{{ 1", "{{ 'abc }}", "{# open", "{% raw %}open", "{{ (1 }}", "{{ 1 2 }}", "{{ }}", "{% set %}", "{% set 1 = 2 %}", "{{ x y }}", "{% if %}{% endif %}", "{{ a ? b }}", "{{ [1, 2 }}", "{{ f(a=1, 2) }}", "{% macro m(a=1, b) %}{% endmacro %}", "{% call 1 %}{% endcall %}", "{{ 1 is odd is even }}", "{% block x %}{% endblock extra %}",
    "{{ 'a\nb\n\nc' | indent }}|{{ 'a\nb' | indent(2, first=true) }}|{{ '\n' | indent(1, blank=true) }}|{{ '' | indent(first=true) }}", "{{ {'b': 1, 'A': 2} | dictsort }}{{ {'a': 2, 'b': 1} | dictsort(by='value', reverse=true) }}", "{{ dict(a=1, b=2) | items | list }}{{ missing | items | list }}{{ {}.items() }}{{ {'a': 1}.keys() }}{{ {'a': 1}.values() }}", "{{ 1 | filesizeformat }}{{ 1500 | filesizeformat }}{{ 2048 | filesizeformat(true) }}{{ 1e30 | filesizeformat }}", "{{ 'a b/c?é' | urlencode }}{{ {'a b': 'c/d'} | urlencode }}", "{{ [1, [2, [3]], 'x'] | string | upper }}{{ none | string }}{{ true | lower }}{{ 1.0 | string | length }}", "{{ [{'a': {'b': 1}}, {'a': {'b': 2}}] | map(attribute='a.b') | sum }}{{ ['ab', 'cd'] | map('first') | join }}{{ [[1, 2], [3]] | sum(start=[]) }}",
]


def outcome(template, variables):
    """The text, or None where jinja2 refuses; False where Python writes an address or takes too long."""
    good, text = expected(template, {"messages": [], "tools": None, "documents": None, "add_generation_prompt": False, **variables})
    return False if any(odd in text for odd in (" at 0x", "<class", "<built-in", "took too long")) else text if good else None


def cases():
    g = Generator(20261124)
    sets = [g.variables() for _ in range(12)]
    templates = [(t, 0) for t in BY_HAND]
    for names, values, filters, tail in (("s", range(0, 12, 3), g.STR_FILTERS, "|"), ("f", (0, 5), g.NUM_FILTERS, "|"), ("xs", (0, 1, 3), g.LIST_FILTERS, "|"),
                                         ("d", (0, 1, 4), g.DICT_FILTERS, "|"), ("people", (0,), g.PEOPLE_FILTERS, "|"), ("s", range(1, 12, 3), g.STR_METHODS, "."),
                                         ("xs", (0, 2), g.LIST_METHODS, "."), ("d", (0, 3), g.DICT_METHODS, "."), ("x", (0, 2, 5), g.TESTS, " is ")):
        templates += [("{{ " + names + tail + f + " }}", v) for f in filters for v in values]
    templates += [("{{ '{" + spec + "}'.format(" + v + ") }}", 0) for spec in g.SPECS for v in ("'ab'", "-42", "3.14159", "true")]
    templates += [("{{ " + f + " % " + v + " }}", 0) for f in g.FORMATS for v in ("'ab'", "-42", "3.14159", "(1, 2)", "{'a': 1}")]
    templates += [(g.template()[0], g.r.randrange(len(sets))) for _ in range(900)]
    res = {"variables": sets, "cases": []}
    for template, v in templates:
        text = outcome(template, sets[v])
        if text is not False: res["cases"].append([template, v, text])
    return res


def chat():
    res = {"templates": {}, "chats": CHATS, "cases": []}
    for name, (_, text) in TEMPLATES.items():
        res["templates"][name] = text
        for i, messages in enumerate(CHATS):
            for answer in (False, True):
                good, out = expected(text, {"messages": messages, "tools": None, "documents": None, "add_generation_prompt": answer, "eos_token": "</s>", "bos_token": ""})
                res["cases"].append([name, i, answer, out if good else None])
    return res


if __name__ == "__main__":
    for name, make in (("cases", cases), ("chat", chat)):
        with open(HERE / (name + ".json"), "w") as out:
            json.dump(make(), out, separators=(",", ":"), ensure_ascii=False)
            out.write("\n")
