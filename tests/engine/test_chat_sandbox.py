"""Chat templates rendered as transformers renders them, and stopped where they would not end."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lmeval.engine.chat import ChatTemplate
from lmeval.errors import ModelError
from tests.engine import small_tokenizers

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " 1+1? "},
    {"role": "assistant", "content": "<think>hm</think>2"},
    {"role": "user", "content": "2+2?"},
]
HONEST = {
    "macros and namespaces": "{% macro turn(m) %}<{{ m['role'] }}>{{ m.content | trim }}\n{% endmacro %}"
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{{ ns.n ~ turn(m) }}{% endfor %}",
    "generation, break and tojson": "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content }}{% endgeneration %}{% break %}{% endif %}{{ m | tojson }}{% endfor %}",
    "text methods": "{{ bos_token }}{% for m in messages[1:] %}{{ m.content.split('</think>')[-1].lstrip().upper() }}"
    "{{ '%s' % loop.index0 }}{{ '{:>4}'.format(loop.index) }}{% endfor %}{{ messages | length * '=' }}",
    "what is not there": "{% if tools is defined and tools %}x{% endif %}{{ missing }}"
    "{% for m in messages|selectattr('role', 'equalto', 'user') %}{{ m.content }}{{ '!' if '2' in m.content }}"
    "{% endfor %}{{ messages[::-1][0].content }}",
}
HOSTILE = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "repetition": "{{ 'a' * 10**12 }}",
    "power": "{{ 9**9**9 }}",
    "doubling": "{% set ns = namespace(x='aa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "doubling a block": "{% set ns = namespace(x='aa') %}{% for i in range(60) %}"
    "{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}{% endfor %}",
    "a filter's width": "{{ 'a' | center(10**11) }}",
    "a method's width": "{{ 'a'.rjust(10**11) }}",
    "a format's width": "{{ '{:99999999999}'.format(1) }}",
    "a percent's width": "{{ '%99999999999d' | format(1) }}",
    "a macro that calls itself": "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}"
    "{{ f(60) }}",
    "one that never ends": "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "endless text": "{{ lipsum(n=10**8) }}",
    "replacement": "{{ ('a' * 100000).replace('a', 'b' * 100000) }}",
    "translation": "{{ ('a' * 100000).translate({97: 'b' * 100000}) }}",
    "depth": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "length": "x" * 10**6,
    "Python's classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "Jinja's globals": "{{ cycler.__init__.__globals__.os.system('true') }}",
}


def tokenizer(source: str) -> Any:
    found = small_tokenizers.byte_level_with_bos()
    found.chat_template = source
    return found


@pytest.mark.parametrize("name", HONEST)
def test_the_text_is_that_of_transformers(name: str) -> None:
    theirs = tokenizer(HONEST[name]).apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    assert ChatTemplate(tokenizer(HONEST[name]), "m", HONEST[name], "")(MESSAGES) == theirs
    assert theirs.strip()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_refused_at_once(name: str) -> None:
    begin = time.process_time()
    with pytest.raises(ModelError, match="chat template of org/model"):
        ChatTemplate(tokenizer(HOSTILE[name]), "org/model", HOSTILE[name], "")(MESSAGES)
    assert time.process_time() - begin < 3


def test_transformers_own_rendering_is_left_as_it_was() -> None:
    from transformers.utils import chat_template_utils

    before = chat_template_utils._compile_jinja_template
    with pytest.raises(ModelError):
        ChatTemplate(tokenizer(HOSTILE["power"]), "m", HOSTILE["power"], "")(MESSAGES)
    assert chat_template_utils._compile_jinja_template is before


def test_a_run_with_a_template_that_loops_for_days_ends_with_a_message(tmp_path: Path) -> None:
    import shutil

    from lmeval.demo import DEMO_MODELS

    folder = shutil.copytree(DEMO_MODELS["demo"], tmp_path / "model")
    (folder / "chat_template.jinja").write_text(HOSTILE["loops"])
    command = [
        sys.executable,
        "-m",
        "lmeval",
        "run",
        "--model",
        str(folder),
        "--tasks",
        "demo_qa",
        "--chat",
        "--limit",
        "1",
    ]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: the chat template of") and "too much work" in ran.stderr
    assert "Traceback" not in ran.stderr
