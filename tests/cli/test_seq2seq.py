"""`lmeval run` with encoder-decoders: the demo's, and a tiny one with language tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lmeval.engine.seq2seq import EMPTY_INPUT
from tests.canned import DOCUMENTS, write_task
from tests.cli.command import Ran, lmeval
from tests.contract import check_line, check_run, read_samples
from tests.engine import small_tokenizers
from tests.oracles.tiny_models import seq2seq_model

LIMIT = 24
DEMO_TASKS = {
    "demo_ppl": "perplexity",
    "demo_cloze": "cloze",
    "demo_qa": "qa",
    "demo_classification": "classification",
    "demo_translation": "translation",
}


def run(output: Path, *arguments: str | Path, model: str | Path = "demo-seq2seq", tasks: str | Path) -> Ran:
    return lmeval("run", "--model", model, "--tasks", tasks, "--output", output, *arguments)


def record_of(output: Path, ran: Ran) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((ran.folder(output) / "run.json").read_text())
    return record


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ran, Path]:
    output = tmp_path_factory.mktemp("seq2seq")
    return run(output, "--limit", str(LIMIT), tasks=",".join(DEMO_TASKS)), output


def test_the_demo_model_does_all_five_kinds(demo: tuple[Ran, Path]) -> None:
    ran, output = demo
    assert (ran.code, ran.err) == (0, "")
    record = record_of(output, ran)
    check_run(record)
    assert record["model"]["type"] == "seq2seq"
    samples = read_samples(ran.folder(output))
    for name, kind in DEMO_TASKS.items():
        for line in samples[name]:
            check_line(line, kind)
    value = {name: next(iter(task["metrics"].values()))["value"] for name, task in record["tasks"].items()}
    assert min(value["demo_cloze"], value["demo_classification"]) > 0.9
    assert value["demo_qa"] > 0.8 and value["demo_translation"] > 60
    assert 0.3 < value["demo_ppl"] < 0.45  # bits per byte; the world's entropy is 0.36


def test_the_record_says_what_was_shared_and_that_texts_answer_an_empty_input(demo: tuple[Ran, Path]) -> None:
    ran, output = demo
    cost = record_of(output, ran)["efficiency"]
    assert (cost["path"], cost["note"]) == ("plain", EMPTY_INPUT)
    assert f"{EMPTY_INPUT}\n" in ran.out
    assert cost["tokens_distinct"] < cost["tokens_requested"]
    assert 0.9 < cost["slot_occupancy"] <= 1 and cost["tokens_generated"] > 0


def test_beams_from_the_command_line(tmp_path: Path) -> None:
    rows = [{"source": "Tolmic: oke suna miru", "target": "The child sees the dog."}]
    keys = {"context": "{{ source }}\nEnglish:", "decoding": {"strategy": "beam", "num_beams": 3}}
    file = write_task(tmp_path, "translation", rows, **keys, max_new_tokens=24)
    ran = run(tmp_path / "out", tasks=file)
    assert ran.code == 0, ran.err
    (line,) = read_samples(ran.folder(tmp_path / "out"))["my_translation"]
    assert line["prediction"].startswith("The ")


def test_a_context_longer_than_the_encoder_is_cut_and_counted(tmp_path: Path) -> None:
    rows = [{"before": "the dog sees the cat " * 20, "word": "x", "after": ""}, *DOCUMENTS["cloze"]]
    ran = run(tmp_path / "out", "--max-length", "32", tasks=write_task(tmp_path, "cloze", rows))
    assert ran.code == 0, ran.err
    assert record_of(tmp_path / "out", ran)["tasks"]["my_cloze"]["counts"]["truncated"] == 1


# ---- refused ----


def check_refused(ran: Ran, *parts: str) -> None:
    assert ran.code == 2
    assert "Traceback" not in ran.err
    for part in (*parts, "fix:"):
        assert part in ran.err


@pytest.mark.parametrize("kind", ["cloze", "perplexity"])
def test_a_target_longer_than_the_decoder(kind: str, tmp_path: Path) -> None:
    long = "the dog sees the cat " * 20
    row = {"cloze": {"before": "x", "word": long.strip(), "after": ""}, "perplexity": {"text": long}}[kind]
    file = write_task(tmp_path, kind, [*DOCUMENTS[kind], row])
    ran = run(tmp_path / "out", "--max-length", "32", tasks=file)
    check_refused(ran, "the target has", "the decoder's window of 32", f"task my_{kind}, doc_id 3", str(file))


def test_an_answer_longer_than_the_decoder(tmp_path: Path) -> None:
    file = write_task(tmp_path, "qa", max_new_tokens=40)
    ran = run(tmp_path / "out", "--max-length", "32", tasks=file)
    check_refused(ran, "max_new_tokens 40 is more than the 32", "task my_qa, doc_id 0")


@pytest.fixture(scope="module")
def nllb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nllb")
    tokenizer = small_tokenizers.nllb()
    model = seq2seq_model("nllb", tokenizer)
    model.generation_config.forced_bos_token_id = None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_task_names_the_languages(nllb: Path, tmp_path: Path) -> None:
    scores = []
    for number, target in enumerate(("deu_Latn", "fra_Latn")):
        languages = {"source_language": "eng_Latn", "target_language": target}
        scored = write_task(tmp_path, "classification", **languages)
        written = write_task(tmp_path, "translation", **languages, max_new_tokens=8)
        ran = run(tmp_path / str(number), model=nllb, tasks=f"{scored},{written}")
        assert ran.code == 0, ran.err
        samples = read_samples(ran.folder(tmp_path / str(number)))
        scores.append([line["loglikelihood"] for line in samples["my_classification"]])
        assert not any("_Latn" in line["prediction"] for line in samples["my_translation"])
    assert all(one != other for one, other in zip(*scores, strict=True))


def test_a_language_that_the_model_does_not_have(nllb: Path, tmp_path: Path) -> None:
    file = write_task(tmp_path, "translation", target_language="de_DE", max_new_tokens=8)
    ran = run(tmp_path / "out", model=nllb, tasks=file)
    check_refused(
        ran, 'no language "de_DE"', "task my_translation, doc_id 0", "target_language may be", "deu_Latn"
    )


def test_no_language_for_a_model_of_many(nllb: Path, tmp_path: Path) -> None:
    ran = run(tmp_path / "out", model=nllb, tasks=write_task(tmp_path, "translation", max_new_tokens=8))
    check_refused(ran, "the task does not say which", "target_language", "task my_translation, doc_id 0")
