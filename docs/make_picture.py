"""Draw docs/run.svg: a real run of the embedded demo model, as a terminal shows it.

Usage: python docs/make_picture.py
"""

from __future__ import annotations

import functools
import io
import re
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from lmeval import cli
from lmeval.cli import table

TASKS = "demo_ppl,demo_cloze,demo_qa,demo_translation,demo_minimal_pairs"


def main() -> None:
    """Run the command and keep what it prints."""
    console = Console(record=True, width=140, file=io.StringIO(), highlight=False)
    command = f"lmeval run --model demo --tasks {TASKS}"
    console.print(f"[bold green]$[/] {command}")
    table.print_run = functools.partial(table.print_run, console=console)
    with tempfile.TemporaryDirectory() as folder:
        sys.argv = [*command.split(), "--output", str(Path(folder) / "results"), "--no-cache"]
        try:
            cli.main()
        except SystemExit as stop:
            if stop.code:
                raise
    # no fonts from the network; and where it was kept is a temporary folder, of no interest in a picture
    svg = re.sub(r"@font-face \{.*?\}", "", console.export_svg(title="lmeval"), flags=re.DOTALL)
    svg = svg.replace("Fira Code", "DejaVu Sans Mono")
    picture = Path(__file__).with_name("run.svg")
    picture.write_text(
        "\n".join(line for line in svg.splitlines() if "kept&#160;in" not in line) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
