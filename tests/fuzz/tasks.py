"""Task files: trees, bytes, bombs and files that are none, through `lmeval tasks validate`."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from lmeval.cli.tasks import validate
from tests.canned import TASKS
from tests.fuzz.kind import Kind, outcome
from tests.fuzz.making import changed, damaged, dumped, numbered, repeated, trees

OPTIONAL: dict[str, Any] = {
    "version": 2,
    "description": "words",
    "tags": ["a"],
    "num_fewshot": 1,
    "fewshot": "random",
    "separator": "\n",
    "instruction": "Do {{ n }}",
    "language": "en",
    "cluster": "{{ c }}",
    "group_by": "g",
    "variants": [{"name": "one"}, {"name": "two", "dataset": {"path": "b.jsonl"}}],
}
VALID = tuple(
    {"name": f"my_{kind}", "dataset": {"path": "docs.jsonl"}, **keys, **more}
    for kind, keys in TASKS.items()
    for more in ({}, OPTIONAL if keys["type"] != "perplexity" else {"variants": OPTIONAL["variants"]})
)
VALID_TEXTS = (
    *(dumped(tree) for tree in VALID),
    b'name: a\ntype: cloze\ndataset: {path: a.jsonl}\n# words\ncontext: "{{ q }}"\ntarget: |-\n  {{ a }}\nvariants:\n'
    b"  - name: b\n    metrics: [acc]\n  - {name: c, version: 3}\n",
)
UNITS = (
    b"[", b"{", b"{a: ", b"[[", b"- ", b"? ", b"a: ", b"a,", b"&a ", b"*a ", b"\n", b" ", b"\t", b"#\n",
    b"%TAG !a! b\n", b"---\n", b"'", b"''", b'\\"', b"\\x41", b"\\", b"|", b">", b"!", b"!!a ", b"a\n",
    b"9", b"1e", b"{{ a }}", b"{{a+", b"{%", b"{#", b"a: b\n ", b"- - ", b"\r", b"\xc2\x85",
    b"\xef\xbb\xbf", b"\xf4\x8f\xbf\xbf", b"a" * 1_000, b"[a, {b: ",
)  # fmt: skip
LINES = (
    "k#: v\n", "? [#]\n: v\n", "&a# k#: v\n", "k#: *a\n", "k#: &a# [*a]\n", "%TAG !a#! tag:x\n",
    "k#: {a: [1, {b: c}]}\n", "- #\n", "--- #\n", "<<: {a#: 1}\n", "k: #\n", "# #\n", "variants#: [{}]\n",
    '"\\U0010ffff#": |\n  a\n',
)  # fmt: skip
HEAD = 'name: a\ntype: classification\ndataset: {path: a.jsonl}\ncontext: "{{ q }}"\nlabel: 0\n'
BOMBS = (
    HEAD + "choices: [" + ", ".join(f'"{{{{ a{n} }}}}"' for n in range(20_000)) + "]\n",
    HEAD + "choices: [a, b]\nvariants:\n" + "".join(f"  - {{name: n{n}}}\n" for n in range(30_000)),
    HEAD + "choices: [a, b]\nvariants:\n" + "".join(f'  - {{text: "{{{{ c{n} }}}}"}}\n' for n in range(5_000)),
    HEAD + "".join(f"k{n}: 1\n" for n in range(9_000)) + "choices: [a, b]\nvariants: [" + "{}, " * 9_000 + "{}]\n",
    HEAD + 'choices: "{{ ' + "+ ".join(["a"] * 100_000) + ' }}"\n',
    HEAD + 'choices: "{{ ' + "(" * 10_000 + "a" + ")" * 10_000 + ' }}"\n',
    HEAD + 'choices: "{{ ' + "not " * 100_000 + 'a }}"\n',
    HEAD + 'choices: "{{ ' + "-" * 100_000 + 'a }}"\n', HEAD + 'choices: "{{ a' + "[0]" * 50_000 + ' }}"\n',
    HEAD + 'choices: "{{ a' + "|list" * 50_000 + ' }}"\n',
    HEAD + 'choices: "' + "{% if a %}" * 5_000 + "{% endif %}" * 5_000 + '"\n',
    HEAD + 'choices: "' + "{% for a in a %}" * 5_000 + "{% endfor %}" * 5_000 + '"\n',
    HEAD + 'choices: "{{ ' + "9" * 100_000 + ' }}"\n', HEAD + 'choices: "{{ 0x' + "f" * 100_000 + ' }}"\n',
    HEAD + 'choices: "' + "{{ a }}" * 100_000 + '"\n',
    HEAD + 'choices: "{% raw %}' + "{{" * 200_000 + '{% endraw %}"\n',
    HEAD + "choices: [a, b]\n" + "description: " + "a" * 900_000 + "\n",
    HEAD + "choices: [a, b]\n" + "x" * 900_000 + ": 1\n",
    HEAD + "choices: [a, b]\nlanguage: en" + "-a" * 400_000 + "\n",
    HEAD + "choices: [a, b]\nmetrics: [" + ", ".join(f"m{n}" for n in range(100_000)) + "]\n",
    HEAD + "choices: [a, b]\ntags: [" + ", ".join(f"m{n}" for n in range(100_000)) + "]\n",
    HEAD.replace("classification", "qa") + "references: a\nstop: [" + "a, " * 150_000 + "b]\n",
)  # fmt: skip
PATTERNS = (
    "(a{1,1000}){1,1000}", "((((a{1,99}){1,99}){1,99}){1,99}){1,99}", "(" * 5_000 + ")" * 5_000,
    "(?R)" * 1_000, "a{9999999999}", "(?:a|b){e<=99999}", "[" + "a-z" * 50_000 + "]", "a|" * 100_000,
    "(?<=a{1,9999})" * 500, "(a)" * 30_000, "a*" * 100_000, "\\p{L}" * 50_000, "(?i)" + "ß" * 50_000,
    "(?P<a>a)" * 2, "(?1)" * 9_999, "[[a]--[b]]", "\\" * 9_999, "(?:(?:(?:(?:a{50}){50}){50}){50}){50}",
    "(?x)#[\n(?:(?:a{999}){999}){999}", "(?#[)(?:(?:a{999}){999}){999}", "[]](?:(?:a{999}){999}){999}[]]",
    "(?V1)[[a](?:(?:a{999}){999}){999}",
)  # fmt: skip
WRITES = HEAD.replace("classification", "generation").replace("label: 0\n", "references: a\n")
BOMBS += tuple(f"{WRITES}extract: '{pattern}'\n" for pattern in PATTERNS)


def validated(raw: bytes, folder: Path) -> str:
    file = folder / "hostile.yaml"
    file.write_bytes(raw)
    return outcome(lambda: validate([file]), "hostile.yaml")


def _no_file(way: str, folder: Path) -> str:
    """Something at the place of a task file that is none."""
    file = folder / "hostile.yaml"
    opened: list[socket.socket] = []
    if way.startswith("/"):
        file.symlink_to(way)
    elif way == "fifo":
        os.mkfifo(file)
    elif way == "folder":
        file.mkdir()
    elif way == "loop":
        file.symlink_to(file)
    elif way == "socket":
        opened.append(socket.socket(socket.AF_UNIX))
        here = Path.cwd()
        os.chdir(folder)  # a socket's path is short
        opened[0].bind("hostile.yaml")
        os.chdir(here)
    elif way == "huge":
        with file.open("wb") as stream:
            stream.truncate(100_000_000)
    elif way == "one line of 100 MB":
        with file.open("wb") as stream:
            for _ in range(100):
                stream.write(b"a" * 1_000_000)
    elif way == "name":
        file = folder / "hostile.yaml\0x"
    found = outcome(lambda: validate([file]), "hostile.yaml")
    for each in opened:
        each.close()
    return found


NO_FILES = (
    "/dev/zero", "/dev/null", "/dev/urandom", "/dev/stdin", "/proc/self/mem", "/proc/kmsg", "fifo",
    "folder", "loop", "socket", "huge", "one line of 100 MB", "name", "missing",
)  # fmt: skip

TASK_KINDS = {
    "task trees": Kind(st.one_of(*map(changed, VALID), trees).map(dumped), validated, share=6),
    "task bytes": Kind(st.one_of(damaged(VALID_TEXTS), st.binary(max_size=200)), validated, share=4),
    "task repetitions": Kind(st.one_of(repeated(UNITS), numbered(LINES)), validated, share=2),
    "task bombs": Kind(st.sampled_from(BOMBS).map(str.encode), validated),
    "no task files": Kind(st.sampled_from(NO_FILES), _no_file),
}
