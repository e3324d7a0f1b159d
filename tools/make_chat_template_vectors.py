#!/usr/bin/env python3
"""Makes the reference vectors of the chat template tests, with Jinja2 as transformers configures it.

Writes into OUTPUT (tests/vectors/chat_template):
  cases.json    small templates, one construct each (CASES below)
  models.json   the *.jinja files that lie in OUTPUT, each with every conversation below
  shared.json   the templates in --shared (a folder of *.jinja), likewise; only what they render to

Each case is a template, the name of its context and either the text or an error message of Python's
(which the C side need not repeat). Needs transformers and jinja2.
"""
import argparse
import datetime
import json
import pathlib

from transformers.utils.chat_template_utils import _compile_jinja_template

NOW = datetime.datetime(2026, 3, 7, 8, 5, 9, 42)

CONTEXTS = {
    "plain": {
        "a": 1, "b": 2, "zero": 0, "neg": -7, "pi": 3.14159, "half": 0.5, "big": 1e20, "tiny": 1.5e-7,
        "t": True, "f": False, "n": None, "s": "Hello World", "empty": "", "pad": "  x y  ",
        "uni": "Grüße, 世界 😀!", "html": "<b>\"it's\" & more</b>", "lines": "one\ntwo\n\nthree\n",
        "list": [3, 1, 2], "words": ["pear", "Apple", "fig", "apple"], "nested": [[1, 2], [3, [4, 5]]],
        "none_list": [], "mixed": [1, "a", None, True, 2.5, [1], {"k": "v"}],
        "d": {"x": 1, "y": [1, 2], "z": {"w": "deep"}}, "empty_d": {}, "keyed": {"items": 5, "get": "g", "b": 2, "A": 1},
        "users": [
            {"name": "Ann", "age": 31, "city": "Rome", "active": True, "tags": ["x", "y"]},
            {"name": "bob", "age": 25, "city": "oslo", "active": False, "tags": []},
            {"name": "Cid", "age": 31, "city": "Oslo", "active": True, "tags": ["z"]},
            {"name": "dee", "age": 19, "city": "rome", "active": False},
        ],
        "tree": [{"v": "1", "c": [{"v": "1.1", "c": []}, {"v": "1.2", "c": [{"v": "1.2.1", "c": []}]}]}, {"v": "2", "c": []}],
        "schema": {"type": "object", "properties": {"q": {"type": "string", "enum": ["α", "β\"\\"]}, "n": {"type": "integer", "default": 1.0}}, "required": [], "x": None, "y": True},
        "control": "tab\there\nnl\r\u0001\u007f\u2028é\"\\/",
    },
}

CASES = r'''
plain text
{{ a }}{{ b }}
{{ a }}<NL>
{{ a }}<NL><NL>
<NL>{{ a }}
x{# comment #}y
x {#- comment -#} y
x<NL>{# comment #}<NL>y
x<NL>  {# comment #}  <NL>y
x<NL>  {#+ comment +#}<NL>y
{% if t %}yes{% endif %}
<NL>{% if t %}<NL>yes<NL>{% endif %}<NL>no
  {% if t %}<NL>  yes<NL>  {% endif %}<NL>end
  {%- if t %}<NL>  yes<NL>  {%- endif %}<NL>end
  {%+ if t +%}<NL>  yes<NL>  {%+ endif +%}<NL>end
a  {%- if t -%}  b  {%- endif -%}  c
a <NL> {{- a -}} <NL> b
a {{+ a }} b
a {{-1}} b{{ 3 -}}   c
{{ "{{" }}{{ '}}' }}{{ "%}" }}
{{ {'a': {'b': 1}}['a']['b'] }}{{ {'a': {'b': 2}}}}
{% raw %}{{ a }} {% if %}{% endraw %}!
x  {%- raw -%}  {{ a }}  {%- endraw -%}  y
{% raw %}<NL>{{ a }}<NL>{% endraw %}<NL>y
  {% raw %} r {% endraw %}<NL>  z
x{% raw %}{% endraw %}y
line1<CR><NL>line2<CR>line3
{% set x = 1 %}<NL>{% set y = 2 -%}<NL>  {{ x }}{{ y }}
{% for x in [1,2] %}<NL>  {{ x }}<NL>{% endfor %}
	{% if t %}tab{% endif %}
x {% if t %}a{% endif %}
{{ a }}  {% if t %}a{% endif %}
{{ a }}<NL>  {% if t %}a{% endif %}
{%if t%}a{%endif%}
{% if t: %}colon{% endif %}
{{ "a" "b" 'c' }}
{{ 'a\nb\tc\\d\'e\"f' }}
{{ "\x41\u00e9\U0001F600\101\q\é" }}
{{ 'line<NL>break' }}
{{ 42 }} {{ 1_000 }} {{ 0x1F }} {{ 0o17 }} {{ 0b101 }} {{ 007 }}
{{ 0x1F }} {{ 0o17 }} {{ 0b101 }} {{ 0 }} {{ 1_000_000 }}
{{ 1.5 }} {{ 1e3 }} {{ 1.5e-10 }} {{ 2.0 }} {{ 1_0.5 }} {{ 1e16 }} {{ 123456789012345680.0 }} {{ 1E5 }}
{{ 0.1 + 0.2 }} {{ 1/3 }} {{ 100.0 }} {{ 1e15 }} {{ 1e22 }} {{ 5e-324 }} {{ 0.0001 }} {{ 0.00001 }} {{ -0.0 }}
{{ true }} {{ True }} {{ false }} {{ False }} {{ none }} {{ None }}
{{ [] }} {{ [1, 'a', none, true, 1.0, ] }} {{ () }} {{ (1,) }} {{ (1, 2) }} {{ {} }} {{ {'a': 1, 2: [3], none: 'x',} }}
{{ 1, 2 }}
{{ s }} {{ uni }} {{ mixed }} {{ d }}
{{ ["it's", 'say "x"', "both ' and \"", "\n\t\\", "\x00\x7f\u200b\u00ad\u3000é😀"] }}
{{ a + b }} {{ a - b }} {{ a * 3 }} {{ 7 / 2 }} {{ 6 / 2 }} {{ 7 // 2 }} {{ 7 % 3 }} {{ 2 ** 10 }}
{{ -7 // 2 }} {{ -7 % 3 }} {{ 7 // -2 }} {{ 7 % -3 }} {{ -7 / 2 }}
{{ 7.5 // 2 }} {{ -7.5 // 2 }} {{ 7.5 % 2 }} {{ -7.5 % 2 }} {{ 2 ** -1 }} {{ 2 ** 0.5 }} {{ 4 ** 0.5 }} {{ 0.0 ** 0 }}
{{ -2 ** 2 }} {{ 2 ** 3 ** 2 }} {{ 2 ** -2 }} {{ - - 3 }} {{ +3 }} {{ -a }}
{{ 1 + 2 * 3 }} {{ (1 + 2) * 3 }} {{ 10 - 4 - 3 }} {{ 100 / 10 / 2 }} {{ 2 * 3 % 4 }}
{{ true + true }} {{ true * 3 }} {{ -true }} {{ true / 2 }} {{ true + 1.5 }}
{{ 1 + 1.0 }} {{ 3 * 0.1 }} {{ 1e308 * 10 }} {{ -1e308 * 10 }} {{ 1e308 * 10 - 1e308 * 10 }}
{{ 'a' + 'b' }} {{ 'ab' * 3 }} {{ 2 * 'ab' }} {{ 'a' * 0 }}|{{ 'a' * -1 }}| {{ [1] + [2] }} {{ [1, 2] * 2 }} {{ (1,) + (2,) }}
{{ 'a' ~ 1 ~ none ~ true ~ 1.0 ~ [1] ~ undef }}
{{ 'a' ~ 1 + 2 }} {{ 1 ~ 2 * 3 }}
{{ 'a' + 1 }}
{{ 1 + 'a' }}
{{ [1] + (2,) }}
{{ none + 1 }}
{{ {} + {} }}
{{ 1 / 0 }}
{{ 1 // 0 }}
{{ 1 % 0 }}
{{ 1.0 / 0 }}
{{ 0 ** -1 }}
{{ -'a' }}
{{ a == 1 }} {{ a != 1 }} {{ a < b }} {{ a <= 1 }} {{ a > b }} {{ a >= 1 }}
{{ 1 == 1.0 }} {{ 1 == true }} {{ 0 == false }} {{ '1' == 1 }} {{ none == false }} {{ none == none }} {{ [1, 2] == [1, 2] }} {{ [1] == (1,) }} {{ {'a': 1, 'b': 2} == {'b': 2, 'a': 1.0} }}
{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 3 > 2 >= 2 > 1 }} {{ 1 == 1 != 2 }} {{ 1 < 2 == 2 }}
{{ 'a' < 'b' }} {{ 'Z' < 'a' }} {{ 'é' > 'z' }} {{ '😀' > '￿' }} {{ 'ab' < 'abc' }} {{ '' < 'a' }} {{ [1, 2] < [1, 3] }} {{ [1] < [1, 0] }} {{ (1, 'a') < (1, 'b') }}
{{ 1 < 'a' }}
{{ none < 1 }}
{{ [1] < ['a'] }}
{{ {} < {} }}
{{ 9007199254740993 == 9007199254740992.0 }} {{ 9007199254740993 > 9007199254740992.0 }}
{{ 1 in [1, 2] }} {{ 3 not in [1, 2] }} {{ 'ell' in s }} {{ '' in 'x' }} {{ 'x' in d }} {{ 1 in d }} {{ 'a' in ('a', 'b') }} {{ 2 in range(3) }} {{ 1.0 in [1] }} {{ none in [none] }}
{{ 1 in 'abc' }}
{{ 1 in 5 }}
{{ [] in {} }}
{{ not true }} {{ not 0 }} {{ not '' }} {{ not [] }} {{ not none }} {{ not undef }} {{ not 'x' }} {{ not not 1 }} {{ not 1 == 2 }}
{{ 1 and 2 }} {{ 0 and 2 }} {{ '' or 'x' }} {{ none or 0 }} {{ 1 or undef.x }} {{ 0 and undef.x }} {{ a and b or zero }} {{ zero or n or 'last' }}
{{ true and not false or false }} {{ not (true or false) }} {{ 1 and 'a' in 'abc' }}
{{ 'y' if t else 'n' }} {{ 'y' if f else 'n' }} {{ 'y' if f }}| {{ 'a' if f else 'b' if f else 'c' }} {{ ('a' if t) ~ '!' }} {{ 1 if none else 2 if t }}
{{ ('y' if f).x }}
{{ d.x }} {{ d['x'] }} {{ d.y[1] }} {{ d.z.w }} {{ d['z']['w'] }} {{ d.nope }}| {{ d['nope'] }}| {{ list.0 }} {{ list[0] }} {{ list[-1] }} {{ list[9] }}|
{{ d.nope.x }}
{{ d['nope']['x'] }}
{{ undef.x }}
{{ undef['x'] }}
{{ undef + 1 }}
{{ 'a' + undef }}
{{ undef < 1 }}
{{ undef() }}
{{ undef }}|{{ undef == undef2 }}|{{ undef == none }}|{{ undef is defined }}|{{ undef ~ 'x' }}|{{ undef or 'd' }}|{{ [undef] }}
{{ n.x }}|{{ n['x'] }}|{{ (5).x }}|{{ 'abc'['x'] }}|{{ a.b }}|
{{ n.x.y }}
{% for x in undef %}x{% else %}none{% endfor %}
{% for x in n %}x{% endfor %}
{% for x in 5 %}x{% endfor %}
{{ keyed.items is callable }}|{{ keyed['items'] }}
{{ keyed['items'] }} {{ keyed['get'] }} {{ keyed.b }} {{ keyed.A }}
{{ d['keys']() | list }} {{ d['items']() | list | length }}
{{ s[0] }} {{ s[-1] }} {{ s[20] }}| {{ uni[8] }} {{ uni[-2] }} {{ s[1.0] }}| {{ s[true] }} {{ list[true] }} {{ list['0'] }}|
{{ s[1:4] }} {{ s[:5] }} {{ s[6:] }} {{ s[-5:] }} {{ s[:-6] }} {{ s[::2] }} {{ s[::-1] }} {{ s[8:2:-2] }} {{ s[100:] }}| {{ s[5:2] }}| {{ s[:] }}
{{ uni[::-1] }} {{ uni[7:9] }} {{ uni[-3:] }} {{ uni[::3] }} {{ uni[2:6] }}
{{ list[1:] }} {{ list[::-1] }} {{ list[:-1] }} {{ list[-2:] }} {{ list[::2] }} {{ (1,2,3)[1:] }} {{ list[none:2] }} {{ range(10)[2:8:3] }} {{ range(10)[::-1] }}
{{ list[a:b] }} {{ list[:b] }} {{ nested[1][1][0] }} {{ nested[-1][-1][-1:] }}
{{ s[::0] }}
{{ s['a':] }}
{{ d[1:] }}
{{ undef[1:] }}
{{ n[1:] }}
{% set x = 5 %}{{ x }}{% set x = x + 1 %}{{ x }}
{% set x, y = 1, 2 %}{{ x }}{{ y }}{% set (p, q), r = [[3, 4], 5] %}{{ p }}{{ q }}{{ r }}
{% set x, y = 'ab' %}{{ y }}{{ x }}
{% set x, y = [1] %}
{% set x, y = [1, 2, 3] %}
{% set x, y = 5 %}
{% set x = 1, 2 %}{{ x }}
{% set x %}block {{ a }}{% endset %}[{{ x }}]
{% set x | upper | replace('B', 'b') %}block {{ a }}{% endset %}[{{ x }}]
{% set x %}{% set y = 3 %}{{ y }}{% endset %}{{ x }}{{ y }}
{% set ns = namespace() %}{% set ns.v = 1 %}{{ ns.v }}{{ ns.nope }}
{% set ns = namespace(v=1, w='x') %}{% for i in list %}{% set ns.v = ns.v + i %}{% endfor %}{{ ns.v }}{{ ns.w }}
{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }}{{ ns['a'] }} {{ ns }}
{% set ns = namespace(a=1) %}{% set ns.a, ns.b = 2, 3 %}{{ ns.a }}{{ ns.b }}
{% set ns = namespace(a=1) %}{% set ns.a %}blk{% endset %}{{ ns.a }}
{% set d.x = 1 %}
{% set nope.x = 1 %}
{% set ns = namespace(_x=1) %}
{% set ns = namespace() %}{% set ns._x = 1 %}
{% set ns = namespace() %}{{ ns.x.y }}
{% if t %}{% set x = 1 %}{% endif %}{{ x }}
{% if f %}{% set a = 9 %}{% endif %}{{ a }}
{% for i in [1] %}{% set a = 9 %}{{ a }}{% endfor %}{{ a }}
{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = x + 10 %}{{ x }} {% endfor %}{{ x }}
{% for i in [1, 2] %}{{ a }}{% endfor %}{% set a = 5 %}{{ a }}
{{ a }}{% for i in [1, 2] %}{{ a }}{% endfor %}{% set a = 5 %}{{ a }}
{% for i in [1, 2] %}{% if i == 2 %}{{ x }}{% endif %}{% set x = i %}{% endfor %}|
{% for a in [7, 8] %}{{ a }}{% endfor %}{{ a }}
{% for i in [1] %}{% for j in [2] %}{% set k = 3 %}{% endfor %}{{ k }}{% endfor %}|
{% if f %}{% elif t %}{% set q = 1 %}{% else %}{% set q = 2 %}{% endif %}{{ q }}
{% for i in list %}{{ i }}{% if not loop.last %}, {% endif %}{% endfor %}
{% for i in list %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.depth }}{{ loop.depth0 }};{% endfor %}
{% for i in list %}{{ loop.previtem }}-{{ i }}-{{ loop.nextitem }};{% endfor %}
{% for i in list %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }};{% endfor %}
{% for i in range(5) %}{{ loop.cycle('a', 'b', 'c') }}{% endfor %}
{% for i in [1, 1, 2, 2, 1] %}{{ loop.changed(i) }}{% endfor %}
{% for i in list %}{{ loop }}{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}
{% for k in d %}{{ k }};{% endfor %}{% for k in d.keys() %}{{ k }}{% endfor %}{% for v in d.values() %}{{ v }}{% endfor %}
{% for c in 'añ😀' %}[{{ c }}]{% endfor %}
{% for a, (b, c) in [[1, [2, 3]], [4, [5, 6]]] %}{{ a }}{{ b }}{{ c }}{% endfor %}
{% for x, y in [1] %}{% endfor %}
{% for i in list if i > 1 %}{{ i }}{{ loop.index }}{{ loop.last }}{{ loop.length }}{% endfor %}
{% for i in list if i > 5 %}{{ i }}{% else %}empty{% endfor %}
{% for i in range(6) if i is odd %}{{ i }}{{ loop.revindex }}{% if not loop.last %},{% endif %}{% endfor %}
{% set ns = namespace(on=true) %}{% for i in range(5) if ns.on %}{{ i }}{% if i == 2 %}{% set ns.on = false %}{% endif %}{% endfor %}
{% for u in users if u.active and u.age > 20 %}{{ u.name }}{% endfor %}
{% for i in [] %}x{% else %}empty{% set z = 1 %}{{ z }}{% endfor %}{{ z }}|
{% for i in [1] %}{% continue %}{% else %}E{% endfor %}
{% for i in [1, 2] %}{% break %}{% else %}E{% endfor %}
{% for i in range(5) %}{% if i == 3 %}{% break %}{% endif %}{% if i is odd %}{% continue %}{% endif %}{{ i }}{% endfor %}
{% for i in [1, 2] %}{% for j in [1, 2, 3] %}{% if j == 2 %}{% break %}{% endif %}{{ i }}{{ j }} {% endfor %}{% endfor %}
{% for i in [1,2] %}{% set x %}a{% if i == 1 %}{% continue %}{% endif %}{% endset %}{{ x }}{% endfor %}
{% for i in [1, 2] %}{% for j in 'ab' %}{{ loop.index }}{% endfor %}{{ loop.index }} {% endfor %}
{% for i in [1, 2] %}{% set outer = loop %}{% for j in 'ab' %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}
{% for n in tree recursive %}[{{ n.v }}{{ loop.depth }}{{ loop(n.c) }}]{% endfor %}
{% for n in tree recursive %}{{ n.v }}{% if n.c %}({{ loop(n.c) }}){% endif %}{% if not loop.last %},{% endif %}{% endfor %}
{% for i in [1] %}{{ loop([2]) }}{% endfor %}
{% for i in [1] %}{% set loop = 1 %}{% endfor %}
{{ loop }}|{{ loop is defined }}
{% break %}
{% if t %}{% continue %}{% endif %}
{% for i in range(3) %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}
{% for i in (1, 2), (3, 4) %}{{ i }}{% endfor %}
{% for i in range(3) | reverse %}{{ i }}{{ loop.length }}{% endfor %}
{% for i in list | map('string') %}{{ i }}{{ loop.length }}{{ loop.last }}{% endfor %}
{% if a == 1 %}one{% elif a == 2 %}two{% else %}other{% endif %}{% if a == 2 %}{% elif a == 1 %}ONE{% endif %}
{% if undef %}x{% elif n %}y{% elif zero %}z{% elif empty %}w{% elif none_list %}v{% elif empty_d %}u{% else %}all false{% endif %}
{% if 0, 0 %}tuple{% endif %}
{% if t %}a
{% if t %}a{% endfor %}
{% endif %}
{% else %}
{% nope %}
{% if %}{% endif %}
{{ }}
{{ a b }}
{{ a + }}
{{ (a }}
{{ a) }}
{{ [1, 2 }}
{{ {'a' 1} }}
{{ a | }}
{{ a is }}
{{ a.}}
{{ a[ }}
{{ 'abc }}
{{ a $ b }}
{{ a ! b }}
{{ a
{% if a
{# unclosed
{% raw %}x
{% for %}{% endfor %}
{% for x y %}{% endfor %}
{% for 1 in [1] %}{% endfor %}
{% set 1 = 2 %}
{% set true = 2 %}
{% set x %}
{% set [a, b] = 1, 2 %}
{% macro %}{% endmacro %}
{% macro m(a=1, b) %}{% endmacro %}
{% macro m(a, a) %}{% endmacro %}
{{ a | nofilter }}
{{ a is notest }}
{% if f %}{{ a | nofilter }}{% endif %}ok
{% if t %}{{ a | nofilter }}{% endif %}ok
{{ (a | nofilter) if f else 'ok' }}
{{ 'ok' if t else (a is notest) }}
{% if f %}{% for i in [] %}{{ a | nofilter }}{% endfor %}{% endif %}
{% if a is notest %}x{% endif %}
{{ range(3, 1, 0) }}
{% include 'x' %}
{% import 'x' as y %}
{% extends 'x' %}
{% do a %}
{{ f(a=1, 2) }}
{{ f(a=1, a=2) }}
{{ f(**d, 1) }}
{% macro m() %}hi{% endmacro %}{{ m() }}{{ m() }}
{% macro m(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }};{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(1, c=5) }}{{ m(b=7, a=8) }}{{ m() }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}
{% macro m(a) %}{{ a }}|{{ varargs }}|{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, x=4) }} {{ m() }}
{% macro m(x) %}{{ x.y }}{% endmacro %}{{ m() }}
{% macro m(x) %}{{ x is defined }}{% endmacro %}{{ m() }}{{ m(none) }}
{% macro m(n) %}{{ n }}{% if n > 0 %},{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(5) }}
{% macro m() %}{{ x }}{% endmacro %}{% set x = 1 %}{{ m() }}{% set x = 2 %}{{ m() }}
{% macro m() %}{{ a }}{% endmacro %}{{ m() }}{% set a = 3 %}
{% macro m() %}{% set z = 1 %}{{ z }}{% endmacro %}{{ m() }}{{ z }}|
{% set x = 1 %}{% macro m(x) %}{{ x }}{% endmacro %}{{ m(5) }}{{ x }}
{% for i in [1, 2] %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}
{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}body {{ a }}{% endcall %}
{% macro m() %}<{{ caller(1, b=2) }}>{% endmacro %}{% call(x, b) m() %}{{ x }}{{ b }}{% endcall %}
{% macro m(k) %}{{ k }}{{ caller() }}{% endmacro %}{% call m('q') %}{% set z = 1 %}{{ z }}{% endcall %}{{ z }}|
{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}
{% macro m() %}x{% endmacro %}{% call m() %}b{% endcall %}
{% macro m(caller) %}{{ caller() }}{% endmacro %}
{% macro m(caller=none) %}{{ caller }}{% endmacro %}{{ m() }}
{% macro m(a, b) %}{% endmacro %}{{ m.name }} {{ m.arguments }} {{ m }}
{% macro out(x) %}  {{ x }}  {% endmacro %}[{{ out('a') | trim }}]{{ out('b') ~ '!' }}
{% macro m(a, b=1) %}{{ a }}{{ b }}{% endmacro %}{{ m(*[5, 6]) }}{{ m(**{'a': 7}) }}{{ m(*(8,), **{'b': 9}) }}
{% call 5 %}{% endcall %}
{% filter upper %}abc {{ s }}{% endfilter %}
{% filter replace('a', 'b') | upper %}banana{% endfilter %}
{% filter trim %}{% set q = 1 %}  {{ q }}  {% endfilter %}{{ q }}|
{% with x = 1, y = 2 %}{{ x }}{{ y }}{% endwith %}{{ x }}|
{% with a = a + 1 %}{{ a }}{% set b = 9 %}{{ b }}{% endwith %}{{ a }}{{ b }}
{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q }}|
{% print a, b %}
{% generation %}gen {{ a }}{% set q = 1 %}{% endgeneration %}{{ q }}|
{%- generation -%}  x  {%- endgeneration -%}  y
{{ range(5) | list }} {{ range(2, 5) | list }} {{ range(5, 0, -2) | list }} {{ range(0) | list }} {{ range(3) }} {{ range(1, 9, 2) }} {{ range(3) | length }} {{ range(3)[1] }} {{ range(3)[-1] }}
{{ range(100001) }}
{{ range() }}
{{ range('a') }}
{{ dict(a=1, b='x') }} {{ dict({'q': 1}, z=2) }} {{ dict([('a', 1), ['b', 2]]) }} {{ dict() }}
{% set j = joiner('|') %}{% for i in list %}{{ j() }}{{ i }}{% endfor %}{% set k = joiner() %}{{ k() }}{{ k() }}
{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.next() }}
{{ raise_exception('stop here') }}
{% if f %}{{ raise_exception('x') }}{% endif %}fine
{{ strftime_now('%Y-%m-%d') }} {{ strftime_now('%d %b %Y %H:%M:%S %j %A %B %p %I %y %% %f') }}
{{ strftime_now('') }}
{{ strftime_now('%-d/%-m') }} {{ strftime_now('plain é') }} {{ strftime_now('%z%Z|') }}
{{ a is defined }}{{ undef is defined }}{{ undef is undefined }}{{ n is none }}{{ a is none }}{{ n is not none }}{{ d.x is defined }}{{ d.q is defined }}{{ d.q is not defined }}
{{ s is string }}{{ a is string }}{{ a is number }}{{ pi is number }}{{ t is number }}{{ a is integer }}{{ t is integer }}{{ pi is float }}{{ a is float }}{{ t is boolean }}{{ a is boolean }}{{ t is true }}{{ f is false }}{{ a is true }}
{{ d is mapping }}{{ list is mapping }}{{ list is iterable }}{{ s is iterable }}{{ a is iterable }}{{ undef is iterable }}{{ d is iterable }}{{ list is sequence }}{{ s is sequence }}{{ d is sequence }}{{ a is sequence }}{{ undef is sequence }}{{ (1,) is sequence }}{{ range(2) is sequence }}{{ d.items() is sequence }}{{ d.items() is iterable }}{{ (list | map('string')) is iterable }}{{ (list | map('string')) is sequence }}
{{ 1 is odd }}{{ 2 is odd }}{{ 2 is even }}{{ -1 is odd }}{{ 6 is divisibleby 3 }}{{ 7 is divisibleby(3) }}{{ 0 is even }}{{ 2.0 is even }}{{ true is odd }}
{{ 'a' is odd }}
{{ 5 is divisibleby 0 }}
{{ a is eq 1 }}{{ a is equalto 2 }}{{ a is == 1 }}
{{ a is eq 1 }}{{ a is equalto 2 }}{{ a is ne 1 }}{{ a is lt 2 }}{{ a is le 1 }}{{ a is gt 1 }}{{ a is ge 1 }}{{ a is lessthan 5 }}{{ a is greaterthan 5 }}{{ 1 is in [1, 2] }}{{ 'e' is in s }}{{ 3 is not in list }}
{{ n is sameas none }}{{ t is sameas true }}{{ a is sameas true }}{{ list is sameas list }}{{ [1] is sameas [1] }}
{{ range is callable }}{{ s.upper is callable }}{{ s is callable }}{{ dict is callable }}{{ n is callable }}
{{ 'abc' is lower }}{{ 'ABC' is upper }}{{ 'aBc' is lower }}{{ '1a' is lower }}{{ '1' is upper }}{{ '' is lower }}{{ 'É' is upper }}
{{ 'upper' is filter }}{{ 'nope' is filter }}{{ 'odd' is test }}{{ 'nope' is test }}
{{ a is not number }}{{ not a is number }}{{ a is number and b is number }}{{ 'x' if a is number else 'y' }}{{ a is number or undef is defined }}
{{ a is defined is true }}
{{ a is string in [false] }}
{{ 5 | abs }}{{ -5 | abs }}{{ (-5) | abs }}{{ (-2.5) | abs }}{{ neg | abs }}{{ true | abs }}
{{ 'a' | abs }}
{{ 'hello wORLD' | capitalize }} {{ 'éa' | capitalize }} {{ '' | capitalize }}| {{ 5 | capitalize }} {{ 'ǆx' | capitalize }}
{{ 'a b-c d_e (f [g {h <i' | title }} {{ "it's élan" | title }} {{ "it's élan ǆ" .title() }} {{ 'ß' | title }}
{{ s | upper }} {{ s | lower }} {{ 'straße ŉ ﬁ' | upper }} {{ 'ΑΣ ΑΣΑ' | lower }} {{ 'İ' | lower | length }} {{ none | upper }} {{ 1.5 | lower }}
{{ pad | trim }}| {{ 'xxaxx' | trim('x') }} {{ 'abcba' | trim('ab') }} {{ 5 | trim }}
{{ s | length }} {{ uni | length }} {{ list | count }} {{ d | length }} {{ '' | length }} {{ undef | length }} {{ d.items() | length }}
{{ 5 | length }}
{{ none | length }}
{{ (list | map('string')) | length }}
{{ list | first }} {{ list | last }} {{ s | first }} {{ s | last }} {{ [] | first }}| {{ '' | last }}| {{ d | first }} {{ d | last }} {{ range(5) | last }} {{ uni | last }} {{ (list | map('string')) | first }}
{{ ([] | first).x }}
{{ (list | map('string')) | last }}
{{ 5 | first }}
{{ list | sort }} {{ words | sort }} {{ words | sort(true) }} {{ words | sort(case_sensitive=true) }} {{ words | sort(reverse=true, case_sensitive=true) }} {{ 'cab' | sort }} {{ d | sort }}
{{ users | sort(attribute='age') | map(attribute='name') | list }} {{ users | sort(attribute='city,name') | map(attribute='name') | join(',') }} {{ users | sort(attribute='age', reverse=true) | map(attribute='name') | join }} {{ nested | sort(attribute=0) }} {{ nested | sort(attribute='0', reverse=true) }}
{{ mixed | sort }}
{{ [2, 1.5, true] | sort }} {{ [[2], [1, 2], [1]] | sort }}
{{ words | unique | list }} {{ [1, 1.0, true, 2, 'a', 'A'] | unique | list }} {{ words | unique(true) | list }} {{ users | unique(attribute='city') | map(attribute='name') | list }}
{{ [[1]] | unique | list }}
{{ list | min }} {{ list | max }} {{ words | min }} {{ words | max }} {{ [] | min }}| {{ users | max(attribute='age') | attr('x') }}| {{ (users | min(attribute='age')).name }} {{ 'hello' | max }} {{ ['b', 'A'] | min }} {{ ['b', 'A'] | min(true) }}
{{ [1, 'a'] | max }}
{{ list | sum }} {{ [] | sum }} {{ [1.5, 2] | sum }} {{ users | sum(attribute='age') }} {{ [[1], [2]] | sum(start=[]) }} {{ list | sum(start=10) }}
{{ ['a'] | sum }}
{{ ['a'] | sum(start='') }}
{{ list | reverse | list }} {{ s | reverse }} {{ uni | reverse }} {{ d | reverse | list }} {{ (1, 2) | reverse | list }} {{ (list | map('string')) | reverse }} {{ d.items() | reverse | list }}
{{ 5 | reverse }}
{{ list | join }} {{ list | join(', ') }} {{ users | join('-', attribute='name') }} {{ s | join('.') }} {{ d | join(',') }} {{ mixed | join('|') }} {{ [] | join(',') }}| {{ list | join(1) }} {{ [undef, none] | join('-') }}
{{ 5 | join }}
{{ list | list }} {{ s | list }} {{ d | list }} {{ d.items() | list }} {{ (1, 2) | list }} {{ undef | list }}
{{ none | list }}
{{ list | map('string') | list }} {{ words | map('upper') | join(',') }} {{ users | map(attribute='name') | join }} {{ users | map(attribute='tags.0', default='-') | list }} {{ users | map(attribute='nope') | list }} {{ words | map('replace', 'p', 'q') | list }} {{ [[1, 2], [3]] | map('first') | list }} {{ ['a'] | map('default', 'x') | list }} {{ [] | map | list }} {{ none | map('upper') | list }}
{{ list | map | list }}
{{ list | map('nope') | list }}
{{ list | map(attribute='x', nope=1) | list }}
{{ list | select('odd') | list }} {{ list | select | list }} {{ [0, 1, '', 'a'] | select | list }} {{ list | select('gt', 1) | list }} {{ list | reject('odd') | list }} {{ [0, none, 'x'] | reject | list }} {{ list | select('in', [1, 2]) | list }} {{ list | select('==', 2) | list }} {{ mixed | select('string') | list }} {{ none | select | list }}
{{ users | selectattr('active') | map(attribute='name') | list }} {{ users | rejectattr('active') | map(attribute='name') | list }} {{ users | selectattr('age', 'equalto', 31) | map(attribute='name') | list }} {{ users | selectattr('tags', 'defined') | list | length }} {{ users | rejectattr('city', 'in', ['Rome', 'rome']) | map(attribute='name') | list }} {{ users | selectattr('age', '>', 20) | list | length }}
{{ users | selectattr('tags.0', 'eq', 'x') | map(attribute='name') | join }}
{{ users[:3] | selectattr('tags.0', 'eq', 'x') | map(attribute='name') | join }}
{{ list | select('nope') | list }}
{{ users | selectattr | list }}
{% set g = list | map('string') %}{{ g | list }}{{ g | list }}
{% set g = list | select('odd') %}{{ 1 in g }}{{ g | list }}
{{ [1, 2, 3, 4, 5] | batch(2) | list }} {{ [1, 2, 3] | batch(2, 'x') | list }} {{ [] | batch(3) | list }} {{ 'abcde' | batch(2) | list }} {{ [1, 2, 3, 4] | batch(2, 'x') | list }}
{{ [1, 2, 3] | batch(0) | list }} {{ [1, 2, 3] | batch(2.0) | list }} {{ [] | batch(0) | list }} {{ [1, 2] | batch(-1) | list }}
{{ [1, 2, 3, 4, 5] | slice(3) | list }} {{ [1, 2, 3, 4, 5] | slice(3, 'x') | list }} {{ [] | slice(2) | list }} {{ [1, 2, 3] | slice(2, 0) | list }} {{ range(10) | slice(4) | list }}
{{ list | slice(0) | list }}
{{ users | groupby('age') | map('first') | list }} {% for g in users | groupby('city') %}{{ g.grouper }}:{{ g.list | map(attribute='name') | join(',') }};{% endfor %} {% for c, l in users | groupby('city', case_sensitive=true) %}{{ c }}{{ l | length }}{% endfor %} {{ users | groupby('nope', default='dflt') | map(attribute=0) | list }}
{{ keyed | dictsort }} {{ keyed | dictsort(true) }} {{ {'a': 2, 'b': 1} | dictsort(by='value') }} {{ {'a': 2, 'b': 1} | dictsort(false, 'key', true) }} {{ {} | dictsort }}
{{ keyed | dictsort(by='nope') }}
{{ list | dictsort }}
{{ d | items | list }} {{ undef | items | list }} {% for k, v in d | items %}{{ k }}{% endfor %}
{{ list | items | list }}
{{ undef | default('x') }} {{ n | default('x') }} {{ n | default('x', true) }} {{ '' | d('e', boolean=true) }} {{ 0 | default(5, true) }} {{ a | default(9) }} {{ undef | default }}| {{ d.q | default('dq') }} {{ undef | default(d.x) }}
{{ 'x' | default(undef.y) }}
{{ '42' | int }} {{ '42.7' | int }} {{ 'x' | int }} {{ 'x' | int(7) }} {{ 3.9 | int }} {{ -3.9 | int }} {{ (-3.9) | int }} {{ '0x1F' | int(0, 16) }} {{ '1F' | int(base=16) }} {{ '  5  ' | int }} {{ none | int }} {{ true | int }} {{ '1_000' | int }} {{ '' | int }} {{ '12abc' | int(default=-1) }} {{ '0b11' | int(base=0) }} {{ [] | int }} {{ '1e3' | int }} {{ 'inf' | int }} {{ '-7' | int }} {{ '+7' | int }}
{{ undef | int }}
{{ '3.14' | float }} {{ 'x' | float }} {{ 'x' | float(1.5) }} {{ 5 | float }} {{ '1e-3' | float }} {{ 'inf' | float }} {{ '-Infinity' | float }} {{ 'nan' | float }} {{ none | float }} {{ true | float }} {{ ' 2. ' | float }} {{ '.5' | float }} {{ '1_0.5' | float }} {{ 'x' | float(none) }}
{{ 42.55 | round }} {{ 42.55 | round(1) }} {{ 42.55 | round(1, 'floor') }} {{ 42.51 | round(1, 'ceil') }} {{ 2.5 | round }} {{ 3.5 | round }} {{ 5 | round }} {{ 2.675 | round(2) }} {{ 1234.5 | round(-2) }} {{ 1250 | round(-2) }} {{ 1350 | round(-2) }} {{ -2.5 | round }} {{ (-2.5) | round }} {{ 7.1 | round(0, 'ceil') }} {{ 7 | round(0, 'floor') }} {{ 0.5 | round | int }}
{{ 1.5 | round(1, 'nope') }}
{{ 'a' | round }}
{{ 'banana' | replace('a', 'o') }} {{ 'banana' | replace('a', 'o', 2) }} {{ 'abc' | replace('', '-') }} {{ 'abc' | replace('', '-', 2) }} {{ 'aaa' | replace('aa', 'b') }} {{ 'x' | replace('y', 'z') }} {{ 5 | replace(5, 6) }} {{ '' | replace('', 'x') }} {{ 'é世' | replace('', '.') }}
{{ 'a' | replace('a') }}
{{ 'foo bar baz qux' | truncate(9) }} {{ 'foo bar baz qux' | truncate(9, true) }} {{ 'foo bar baz qux' | truncate(11) }} {{ 'foo bar baz qux' | truncate(11, false, '...', 0) }} {{ 'foo bar baz qux' | truncate(5, true, '…', 0) }} {{ 'short' | truncate }} {{ 'ééééééééééééé' | truncate(5, true) }} {{ 'nospacesatallhere' | truncate(8) }}
{{ 'foo bar' | truncate(2) }}
{{ lines | indent }}| {{ lines | indent(2) }}| {{ lines | indent(2, true) }}| {{ lines | indent(2, first=true, blank=true) }}| {{ lines | indent('> ') }}| {{ 'x' | indent }}| {{ '' | indent(3, true) }}|
{{ undef | indent }}
{{ 5 | indent }}
{{ 'a b  c_d, e-f 1é' | wordcount }} {{ '' | wordcount }}
{{ 'abc' | center(9) }}| {{ 'abcd' | center(9) }}| {{ 'abc' | center(8) }}| {{ 'abc' | center(2) }}| {{ 'x' | center }}|
{{ html | e }} {{ html | escape }} {{ html | safe }} {{ html | forceescape }} {{ 5 | e }} {{ none | e }} {{ html | e | e }} {{ html | e | forceescape }} {{ (html | safe) is escaped }}
{{ ('<' | safe) + '<' }} {{ '<' + ('<' | e) }} {{ ('<' | safe) ~ '<' }} {{ [('<' | e)] }} {{ ('<a>' | safe).upper() + '&' }} {{ ('<' | safe) | upper + '&' }} {{ ('a<' | safe)[1:] + '<' }} {{ ('<' | safe) | replace('<', '>') }} {{ (('<' | safe) * 2) + '>' }} {{ ('<' | safe).replace('<', '>') }}
{{ '<p>a <b>b</b>  c</p><!-- x -->&lt;d&gt; &amp;' | striptags }}
{{ 'a b/c?d=é&f' | urlencode }} {{ {'a b': 'c/d', 'e': 1} | urlencode }} {{ [('x', 'y z')] | urlencode }} {{ 5 | urlencode }} {{ "~-._*'()" | urlencode }}
{{ '%s is %d and %.2f' | format('x', 3, 2.5) }} {{ '%(a)s-%(b)03d' | format(a='q', b=7) }} {{ '%5s|%-5s|%05d|%+d|%x|%X|%o|%e|%g|%%|%r|%c' | format('a', 'b', 42, 5, 255, 255, 8, 12345.678, 0.0001, 'q', 65) }}
{{ '%s' % 'a' }} {{ '%s %s' % ('a', 1) }} {{ '%d' % 3.7 }} {{ '%s' % [1, 2] }} {{ '%(x)s' % {'x': 1} }} {{ '%5.1f|' % pi }} {{ '%.3s|' % 'abcdef' }} {{ '%s' % none }} {{ '%-8s|' % 'é' }} {{ '% d' % 5 }} {{ '%#x' % 255 }} {{ '%*d' % (5, 42) }} {{ '%i' % true }} {{ '%s' % undef }}|
{{ '%s %s' % 'a' }}
{{ '%s' % ('a', 'b') }}
{{ 'x' % 'a' }}
{{ '%d' % 'a' }}
{{ '%q' % 1 }}
{{ '%' % 1 }}
{{ '{} {}'.format(1, 'a') }} {{ '{0}{1}{0}'.format('x', 'y') }} {{ '{n}'.format(n=5) }} {{ '{:>5}|{:<5}|{:^5}|{:*^7}'.format('a', 'b', 'c', 'd') }} {{ '{:05d} {:.2f} {:,} {:x} {:#x} {:b} {:+} {:e} {:%}'.format(42, 3.14159, 1234567, 255, 255, 5, 3, 1500.0, 0.25) }} {{ '{{}}'.format() }} {{ '{!r}'.format('q') }} {{ '{0[a]} {1.x}'.format({'a': 1}, d) }} {{ '{:.3}'.format('abcdef') }} {{ '{:,.2f}'.format(1234567.891) }} {{ '{:10.3f}|'.format(pi) }} {{ '{:08.2f}'.format(-3.5) }} {{ '{}'.format(none) }} {{ '{:5}|{:5}|'.format(1, 'a') }} {{ '{:g}'.format(0.5) }} {{ '{:d}'.format(true) }} {{ '{}'.format(1.0) }} {{ '{:_}'.format(1234567) }} {{ '{:c}'.format(65) }}
{{ '{}'.format() }}
{{ '{x}'.format() }}
{{ '{'.format() }}
{{ '}'.format() }}
{{ '{:d}'.format('a') }}
{{ '{:q}'.format(1) }}
{{ '{0} {}'.format(1, 2) }}
{{ d | tojson }} {{ mixed | tojson }} {{ s | tojson }} {{ uni | tojson }} {{ n | tojson }} {{ 1.0 | tojson }} {{ 1e20 | tojson }} {{ tiny | tojson }} {{ t | tojson }} {{ [] | tojson }} {{ {} | tojson }} {{ (1, 2) | tojson }} {{ html | tojson }}
{{ control | tojson }} {{ control | tojson(ensure_ascii=true) }} {{ '😀é' | tojson(true) }}
{{ schema | tojson(indent=2) }}
{{ schema | tojson(indent=0) }} {{ schema | tojson(indent='--') }} {{ [] | tojson(indent=2) }} {{ {'a': []} | tojson(indent=4) }}
{{ schema | tojson(sort_keys=true) }} {{ schema | tojson(separators=(',', ':')) }} {{ schema | tojson(indent=1, separators=(' ,', ' : '), sort_keys=true) }}
{{ {1: 2, none: 3, true: 4, 1.5: 5} | tojson }} {{ [1e400] | tojson }}
{{ ['nan' | float, 'inf' | float, '-inf' | float] | tojson }} {{ [undef is defined, 5 // 2] | tojson }}
{{ {'b': 1, 'a': {'d': 1, 'c': 2}} | tojson(sort_keys=true) }}
{{ undef | tojson }}
{{ d.items() | tojson }}
{{ range(3) | tojson }}
{{ {(1, 2): 3} | tojson }}
{{ (list | map('string')) | tojson }}
{{ 5 | string + '!' }} {{ none | string }} {{ list | string | length }} {{ 1.0 | string }} {{ s | string }}
{{ d | attr('x') }}| {{ d | attr('keys') is callable }} {{ 'a' | attr('upper') is defined }} {{ 'a' | attr('nope') }}|
{{ pad.strip() }}|{{ pad.lstrip() }}|{{ pad.rstrip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'abcxcba'.lstrip('abc') }}|{{ 'éaé'.strip('é') }}|{{ '\n\t a \u3000\u00a0'.strip() }}|{{ ' a'.strip(none) }}|{{ 'ab'.strip('') }}
{{ 'a,b,,c'.split(',') }} {{ 'a b  c'.split() }} {{ ' a  b '.split(' ') }} {{ 'a,b,c'.split(',', 1) }} {{ 'a b c'.split(maxsplit=1) }} {{ ''.split() }} {{ ''.split(',') }} {{ 'abc'.split('abc') }} {{ 'a--b--c'.split('--') }} {{ 'a b c d'.split(none, 2) }} {{ 'x'.split(',', 0) }} {{ ' a b '.split(none, 0) }} {{ 'a b'.split(sep=' ') }}
{{ 'a,b,c'.rsplit(',', 1) }} {{ 'a b  c '.rsplit() }} {{ 'a b c'.rsplit(none, 1) }} {{ 'a,b'.rsplit(',') }} {{ ' a b c '.rsplit(maxsplit=2) }}
{{ 'a'.split('') }}
{{ 'a b'.split(none, none) }}
{{ 'a'.center(none) }}
{{ 'a'.splitlines([1]) }}
{{ 'x' | indent({}) }}
{{ list | sort('x') }}
{{ '5' | int(9, 'x') }} {{ 5 | int(9, 'x') }}
{{ s.find('o', none, none) }} {{ s.startswith('H', none) }}
{{ 'a'.split(1) }}
{{ lines.splitlines() }} {{ lines.splitlines(true) }} {{ 'a\r\nb\rc\u2028d\x0be'.splitlines() }} {{ ''.splitlines() }} {{ 'a\r\nb'.splitlines(keepends=true) }}
{{ s.startswith('Hell') }}{{ s.startswith('x') }}{{ s.startswith(('x', 'H')) }}{{ s.endswith('World') }}{{ s.endswith(('a', 'd')) }}{{ s.startswith('World', 6) }}{{ s.startswith('') }}{{ s.endswith('lo', 0, 5) }}{{ uni.startswith('世', 7) }}{{ 'a'.startswith('', 2) }}{{ 'a'.endswith('') }}
{{ s.startswith(1) }}
{{ s.startswith(['H']) }}
{{ s.replace('o', '0') }} {{ s.replace('o', '0', 1) }} {{ 'aaa'.replace('a', '', 2) }} {{ s.replace('zz', 'y') }}
{{ s.upper() }} {{ s.lower() }} {{ s.title() }} {{ s.capitalize() }} {{ s.swapcase() }} {{ 'ÀÉ'.lower() }} {{ "they're bill's".title() }} {{ 'ﬁx ǆ'.title() }} {{ 'ß'.capitalize() }} {{ 'ΟΔΟΣ. ΟΔΟΣ'.lower() }} {{ '1a2b'.title() }}
{{ s.find('o') }} {{ s.rfind('o') }} {{ s.find('zz') }} {{ uni.find('界') }} {{ s.find('o', 5) }} {{ s.find('o', 5, 7) }} {{ s.index('W') }} {{ s.rindex('l') }} {{ s.find('') }} {{ s.rfind('') }} {{ s.find('', 20) }} {{ s.find('l', -3) }} {{ uni.rfind('ü') }}
{{ s.index('zz') }}
{{ s.count('l') }} {{ s.count('') }} {{ 'aaaa'.count('aa') }} {{ s.count('o', 5) }} {{ uni.count('ß') }} {{ ''.count('') }}
{{ ', '.join(['a', 'b']) }} {{ ''.join('abc') }} {{ '-'.join([]) }}| {{ '.'.join(d) }} {{ '/'.join(words | map('upper')) }}
{{ ','.join([1]) }}
{{ '12'.isdigit() }}{{ '²'.isdigit() }}{{ ''.isdigit() }}{{ '1a'.isdigit() }}{{ 'ab'.isalpha() }}{{ 'aé世'.isalpha() }}{{ 'a1'.isalpha() }}{{ 'a1'.isalnum() }}{{ 'a 1'.isalnum() }}{{ ' \n'.isspace() }}{{ ''.isspace() }}{{ 'AB'.isupper() }}{{ 'ab'.islower() }}{{ 'A1'.isupper() }}{{ '1'.islower() }}{{ '٣'.isdecimal() }}{{ '½'.isnumeric() }}{{ 'a'.isascii() }}{{ 'é'.isascii() }}{{ 'a\n'.isprintable() }}
{{ 'prefix-x'.removeprefix('prefix-') }} {{ 'x'.removeprefix('y') }} {{ 'x.txt'.removesuffix('.txt') }} {{ 'x'.removesuffix('') }}
{{ '42'.zfill(5) }} {{ '-42'.zfill(5) }} {{ '+1'.zfill(4) }} {{ 'abc'.zfill(2) }} {{ 'é'.zfill(3) }}
{{ 'ab'.center(5) }}| {{ 'ab'.center(5, '*') }} {{ 'abc'.center(6, '*') }} {{ 'ab'.ljust(4, '.') }} {{ 'ab'.rjust(4, '.') }} {{ 'ab'.ljust(1) }} {{ 'a'.center(4, '*') }}
{{ 'a=b=c'.partition('=') }} {{ 'a=b=c'.rpartition('=') }} {{ 'abc'.partition('=') }} {{ 'abc'.rpartition('=') }}
{{ 'a'.upper(1) }}
{{ 'a'.nope() }}
{{ s.upper }}{# prints an address in Python #}{{ undef.boom }}
{{ list.index(1) }} {{ list.count(3) }} {{ (1, 2, 1).count(1) }} {{ (1, 2).index(2) }} {{ list.count('x') }}
{{ list.index(99) }}
{{ list.append(4) }}
{{ list.pop() }}
{{ list.extend([1]) }}
{{ d.update({'a': 1}) }}
{{ d.pop('x') }}
{{ d.setdefault('q', 1) }}
{{ list.append is defined }}{{ list.append }}|
{{ d.keys() }} {{ d.values() }} {{ d.items() }} {{ d.keys() | list }} {{ d.values() | first }} {{ 'x' in d.keys() }} {{ ('x', 1) in d.items() }} {{ 1 in d.values() }} {{ d.keys() | length }}
{{ d.get('x') }} {{ d.get('q') }} {{ d.get('q', 'dflt') }} {{ d.get('z', {}).get('w') }} {{ d.get('q', {}).get('w', 'none') }} {{ {}.get('a') is none }} {{ {1: 'one'}.get(1.0) }}
{{ d.get() }}
{{ d.get([]) }}
{{ {1: 'a', 1.0: 'b', true: 'c'} }} {{ {'a': 1, 'a': 2} }} {{ {1: 'x'}[true] }} {{ {(1, 2): 'x'}[(1, 2)] }} {{ {none: 1}[none] }}
{{ {[]: 1} }}
{{ d.__class__ }}|{{ s.__len__ }}|{{ d['__class__'] }}|
{{ s.__class__.__mro__ }}
{{ ''.__class__() }}
{{ 5() }}
{{ 'a'() }}
{{ none() }}
{{ d.x() }}
{{ (1).__add__ }}|
{% set x = namespace(items=[1]) %}{{ x['items'] }}{{ x.items }}
{{ users[0].name ~ users[-1]['name'] }} {{ users[0].tags[-1] }} {{ (users | first).name }} {{ users[0]['tags'] | join }}
{{ users | map(attribute='age') | sum }} {{ users | map(attribute='age') | list | sort | last }} {{ users | selectattr('active') | list | length > 1 }}
{{ [1, 2, 3] | map('string') | join(', ') | upper | replace(', ', '-') }} {{ -1 | abs }} {{ 1 + 2 | abs }} {{ 'a' ~ 'b' | upper }} {{ 2 * 3 | string }} {{ not 1 | abs }}
{{ s|upper|lower|title }} {{ s | upper == 'HELLO WORLD' }} {{ 'x' in s | lower }} {{ (s | length) > 5 and 'W' in s }}
{{ s .  upper ( ) }} {{ d [ 'x' ] }} {{ list [ 0 : 2 ] }} {{ a   is   defined }} {{ f  if  t  else  a }}
{{ d.y.0 }} {{ nested.1.1.0 }} {{ d.y.5 }}|
{{ ((((1)))) }} {{ (1, (2, (3,))) }} {{ [[[]]] }} {{ {'a': {'b': {'c': 1}}}.a.b.c }} {{ [1,2,3][1] }} {{ 'abc'[1] }} {{ (1,2)[0] }} {{ {'a': 1}.a }} {{ 'abc'.upper()[0] }} {{ [s.upper, s.lower][1]() }}
{{ in }}|{{ is_it }}|{{ _x }}|{{ if_ }}|{{ ünï }}|
{% set ünï = 3 %}{{ ünï }}
{{ true if a == 1 and b == 2 or f else false }} {{ a if a is defined and a is not none else 'dflt' }} {{ ('x' if f else 'y') ~ 'z' }} {{ 'x' if f else 'y' ~ 'z' }} {{ [1 if t else 2, 3] }} {{ (1 if f else 2) + 1 }}
{{ [] is sequence and [] is not mapping }} {{ s is string and s | length > 3 }} {{ undef is not defined or undef.x }} {{ n is none and 'None!' }}
{% for m in [{'role': 'user', 'content': 'hi'}, {'role': 'assistant', 'content': 'yo'}] %}{{ '<|' + m['role'] + '|>\n' + m.content | trim + '<|end|>\n' }}{% endfor %}
{%- for u in users -%}<NL>    {{ u.name }}<NL>{%- endfor -%}<NL>end
{% for u in users %}<NL>    {%- if loop.first %}<NL>F<NL>    {%- endif %}<NL>{{ u.name }}<NL>{% endfor %}<NL>
{{ "a\
b" }}
{{ '\u00e9' == 'é' }} {{ '\x41' }} {{ '\0' | length }} {{ '\777' | length }}
{{ '\x4' }}
{{ '\u12' }}
{{ 9223372036854775807 }} {{ -9223372036854775807 }} {{ 9223372036854775807 + 0 }} {{ 4611686018427387904 * 1 }} {{ 9223372036854775807 / 2 }} {{ 9007199254740993 / 1 }}
{{ 1e400 - 1 }}
{{ 123456.789 }} {{ 1.7976931348623157e308 }} {{ 2.5e-5 }} {{ 1e-5 }} {{ 123e-7 }} {{ 0.1 }} {{ 1e100 }} {{ 33.333333333333336 }} {{ 5.0e0 }}
{{ [1.0, 1e16, -0.0, 1e-7] }} {{ {'a': 1.0} }} {{ (1.5,) }} {{ none, true }}
{{ dict(a=1).a }} {{ dict(a=1)['a'] }} {{ dict(a=1) | tojson }} {{ dict(**d).x }} {{ dict(d, x=9).x }}
{{ dict(1) }}
{{ dict([1]) }}
{{ namespace(1) }}
{{ joiner(1, 2) }}
{{ cycler() }}
{{ raise_exception() }}
{{ strftime_now() }}
{{ s | upper(1) }}
{{ s | replace }}
{{ s | trim(1) }}
{{ s | center('a') }}
{{ list | join(',', 'a', 'b') }}
{{ s | tojson(nope=1) }}
{{ a is divisibleby }}
{{ a is defined(1) }}
{{ list | sort(nope=1) }}
{{ 'a' in undef }}|{{ undef in [1] }}|{{ undef in [undef2] }}
{{ undef in 'abc' }}
{{ undef | upper }}|{{ undef | trim }}|{{ undef | join(',') }}|{{ undef | first }}|{{ undef | sort }}|{{ undef | sum }}|{{ undef | replace('a', 'b') }}|{{ undef | string }}|{{ undef | reverse | list }}|{{ undef | map('upper') | list }}|{{ undef | truncate }}|{{ undef | wordcount }}|{{ undef | unique | list }}|{{ undef | title }}|{{ undef | e }}|
{{ undef | abs }}
{{ undef | round }}
{{ undef | float }}
{{ undef | dictsort }}
{{ undef | last }}|{{ undef | min }}|
{{ n | upper }} {{ n | trim }} {{ n | default('x') }} {{ n | string }} {{ n | title }}
{{ n | first }}
{{ n | join }}
{{ n | sort }}
{{ list is sameas(list) }}{{ a is eq(1) }}{{ a is in([1]) }}{{ 'x' is not eq('y') }}{{ a is not sameas b }}
{{ [a, b] == [1, 2] and {'a': a} == {'a': 1} }} {{ d == {'x': 1, 'y': [1, 2], 'z': {'w': 'deep'}} }} {{ users[0] == users[0] }} {{ users[0] == users[-1] }} {{ range(3) == range(0, 3, 1) }} {{ d.keys() == d.keys() }} {{ 'a' != 'b' }}
{% macro tag(name, content='', attrs={}) -%}<{{ name }}{% for k, v in attrs.items() %} {{ k }}="{{ v }}"{% endfor %}>{{ content }}</{{ name }}>{%- endmacro %}{{ tag('a', 'x', {'href': '#'}) }}{{ tag('b') }}
{% macro schema_type(s, depth=0) %}{% if s is mapping %}{% for k, v in s.items() %}<NL>{{ '  ' * depth }}{{ k }}:{{ schema_type(v, depth + 1) }}{% endfor %}{% elif s is string or s is not iterable %} {{ s }}{% else %} [{% for i in s %}{{ schema_type(i, depth) }}{% endfor %} ]{% endif %}{% endmacro %}{{ schema_type(schema) }}
{% set q = [] %}{% for i in range(3) %}{% set q = q + [i] %}{% endfor %}{{ q }}
{% set ns = namespace(q=[]) %}{% for i in range(3) %}{% set ns.q = ns.q + [i * i] %}{% endfor %}{{ ns.q | join('+') }}={{ ns.q | sum }}
{% set content = 'a</think>b' %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}{{ content }}
{% for m in users[::-1] %}{% set i = (users | length - 1) - loop.index0 %}{{ i }}{{ m.name }} {% endfor %}
{% macro a1() %}1{{ a2() }}{% endmacro %}{% macro a2() %}2{% endmacro %}{{ a1() }}
{% if t %}{% macro mm() %}in if{% endmacro %}{% endif %}{{ mm() }}
{% for i in [1] %}{% if t %}{% set v = 1 %}{% else %}{% set v = 2 %}{% endif %}{{ v }}{% endfor %}{{ v }}|
{% set x = 0 %}{% if t %}{% set x = 1 %}{% if t %}{% set x = 2 %}{% endif %}{% endif %}{{ x }}
{% with a = 5 %}{% for i in [1] %}{% set a = a + i %}{{ a }}{% endfor %}{{ a }}{% endwith %}{{ a }}
{% for i in [1, 2, 3] -%}  {{ i }}  {%- endfor %}
{{- a -}}   {{- b -}}
{{ a -}}<NL><NL>  {{ b }}
<NL>  <NL>{%- if t %}x{% endif %}
{% if t -%}<NL>   x   <NL>{%- endif %}
{%- set x = 1 -%}   {{ x }}   {%- set y = 2 -%}   {{ y }}
{#- a -#}{#- b -#}x{# c -#}   y
{# multi<NL>line #}x
{% if t %}  {# c #}  {% endif %}
{{ '%' }}{{ '#' }}{{ '{' }}{%% if t %}
{ { a } } {a} {%raw%}{%endraw%} {
{{{'a': 1}.a}}
{{ {'a': 1} }}{{ [{'b': [2]}] }}
100% {# x #} # {{ a }} $ %
'''.strip("\n").split("\n")

MESSAGES = {
    "user": [{"role": "user", "content": "Hello there"}],
    "system": [{"role": "system", "content": "Be brief.\n"}, {"role": "user", "content": " Hi! "}],
    "multi": [
        {"role": "system", "content": "You are a poet."},
        {"role": "user", "content": "One line, please."},
        {"role": "assistant", "content": "Grüße aus 東京 <b>&amp;</b>"},
        {"role": "user", "content": "Another.\n\nNow."},
        {"role": "assistant", "content": "<think>\nhm, let me see\n</think>\n\nThere."},
        {"role": "user", "content": "Thanks 😀"},
    ],
    "tool_call": [
        {"role": "user", "content": "Weather in Oslo?"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "call00001", "type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo", "days": 2, "unit": "°C", "f": 1.0, "deep": {"a": [True, None]}}}}]},
        {"role": "tool", "name": "weather", "tool_call_id": "call00001", "content": "{\"temp\": -3}"},
        {"role": "assistant", "content": "Minus three."},
        {"role": "user", "content": "And Rome?"},
    ],
    "tool_calls": [
        {"role": "system", "content": "Use tools."},
        {"role": "user", "content": "Compare."},
        {"role": "assistant", "content": "Looking.", "tool_calls": [
            {"id": "call00001", "type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}},
            {"id": "call00002", "type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}]},
        {"role": "tool", "name": "weather", "tool_call_id": "call00001", "content": "cold"},
        {"role": "tool", "name": "weather", "tool_call_id": "call00002", "content": "warm"},
    ],
    "string_arguments": [
        {"role": "user", "content": "Go"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "call00001", "type": "function", "function": {"name": "go", "arguments": "{\"a\": 1}"}}]},
        {"role": "tool", "tool_call_id": "call00001", "content": "done"},
    ],
    "reasoning": [
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "4", "reasoning_content": "two and two\n"},
        {"role": "user", "content": "3+3?"},
        {"role": "assistant", "content": "6", "reasoning_content": "three and three"},
    ],
    "parts": [{"role": "user", "content": [{"type": "text", "text": "Look: "}, {"type": "image"}, {"type": "text", "text": "what?"}]}],
    "wrong_order": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
    "assistant_first": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}],
    "unknown_role": [{"role": "narrator", "content": "Once"}],
    "bad_id": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {}}}]}],
    "empty": [],
}

TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "The weather's \"forecast\".", "parameters": {
        "type": "object", "properties": {"city": {"type": "string", "description": "A city – anywhere"}, "days": {"type": "integer", "enum": [1, 2, 3]}, "unit": {"type": ["string", "null"], "default": "°C"}, "list": {"type": "array", "items": {"type": "number"}}},
        "required": ["city"]}, "return": {"type": "string"}}},
    {"type": "function", "function": {"name": "go", "description": "Goes.", "parameters": {"type": "object", "properties": {}}}},
]


def conversations():
    for name, messages in MESSAGES.items():
        for generate in (False, True):
            base = {"messages": messages, "add_generation_prompt": generate, "bos_token": "<s>", "eos_token": "</s>"}
            yield f"{name}{'+generate' if generate else ''}", base
        if name in ("user", "system", "multi", "tool_call", "tool_calls", "string_arguments", "empty"):
            yield f"{name}+tools", {**base, "tools": TOOLS}
    yield "multi+no_thinking", {**base, "messages": MESSAGES["multi"], "enable_thinking": False}
    yield "user+date", {**base, "messages": MESSAGES["user"], "date_string": "01 Jan 2026", "tools": None}
    yield "tools+in_system", {**base, "messages": MESSAGES["tool_call"], "tools": TOOLS, "tools_in_user_message": False}


def render(template, context):
    """("output", text) or ("error", message)"""
    try:
        compiled = _compile_jinja_template(template)
        compiled.globals["strftime_now"] = lambda format: NOW.strftime(format)
        return "output", compiled.render(**context)
    except RecursionError:
        raise
    except Exception as error:
        return "error", f"{type(error).__name__}: {error}"


def unescape(template):
    return template.replace("<CR><NL>", "\r\n").replace("<NL>", "\n").replace("<CR>", "\r")


def small_cases():
    cases = []
    for line in CASES:
        template = unescape(line)
        kind, text = render(template, CONTEXTS["plain"])
        cases.append({"template": template, "context": "plain", kind: text})
    return {"contexts": CONTEXTS, "cases": cases}


def model_cases(folder):
    contexts = dict(conversations())
    cases = []
    for path in sorted(folder.glob("*.jinja")):
        template = path.read_text()
        for name, context in contexts.items():
            kind, text = render(template, context)
            cases.append({"file": path.name, "context": name, kind: text})
    return {"contexts": contexts, "cases": cases}


def write(path, data):
    lines = [json.dumps(case, ensure_ascii=False) for case in data["cases"]]
    contexts = [f"{json.dumps(name)}: {json.dumps(context, ensure_ascii=False)}" for name, context in data["contexts"].items()]
    path.write_text("{\"contexts\": {\n" + ",\n".join(contexts) + "\n},\n\"cases\": [\n" + ",\n".join(lines) + "\n]}\n")
    errors = sum("error" in case for case in data["cases"])
    print(f"{path.name}: {len(data['cases'])} cases, {errors} of them errors")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--shared", type=pathlib.Path, help="folder of *.jinja; shared.json stays as it is without")
    arguments = parser.parse_args()
    write(arguments.output / "cases.json", small_cases())
    write(arguments.output / "models.json", model_cases(arguments.output))
    if arguments.shared:
        write(arguments.output / "shared.json", model_cases(arguments.shared))


if __name__ == "__main__":
    main()
