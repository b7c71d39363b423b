"""The world: its entropy is exact, its texts have one derivation, and training sees no task document."""

from __future__ import annotations

import json
import math
import re
from itertools import islice
from pathlib import Path
from random import Random
from statistics import fmean, stdev

import pytest

from lmeval.demo import documents, world
from lmeval.demo.grammar import entropy_bits, log2_probability, sample
from lmeval.demo.train import TOKENIZER_SEED, TRAINING_SEED, training_blocks

DATA_DIR = Path(__file__).parents[2] / "tasks" / "data" / "demo"


def rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (DATA_DIR / f"{name}.jsonl").read_text().splitlines()]


def test_entropy_by_recursion_is_the_mean_information_of_samples() -> None:
    rng = Random(11)
    information = [-sample(world.DOCUMENT, rng).log2_probability for _ in range(2000)]
    error = stdev(information) / math.sqrt(len(information))
    assert abs(fmean(information) - world.document_entropy_bits()) < 4 * error
    assert error < 0.6


@pytest.mark.parametrize("kind", world.BLOCK_KINDS)
def test_entropy_of_each_kind(kind: str) -> None:
    rng, node = Random(12), world.BLOCK_KINDS[kind][1]
    information = [-sample(node, rng).log2_probability for _ in range(800)]
    error = stdev(information) / math.sqrt(len(information))
    assert abs(fmean(information) - entropy_bits(node)) < 4 * error + 1e-9


def test_probability_of_a_text_is_that_of_its_only_derivation() -> None:
    """Parsing sums over all derivations, sampling multiplies along one: equal where there is no other."""
    rng = Random(13)
    for _ in range(150):
        derivation = sample(world.DOCUMENT, rng)
        probability = world.document_log2_probability(derivation.text)
        assert math.isfinite(probability)
        assert math.isclose(probability, derivation.log2_probability, rel_tol=1e-9)


def test_probability_by_hand() -> None:
    """Parsing sums over all derivations, sampling multiplies along one: equal where there is only one."""
    fact = "After the old storm Mira went home to Tolmar with a drum."
    assert math.isclose(2 ** -log2_probability(world.BLOCK, fact), 2 * 12 * 8 * 24 * 12 / 0.15)


@pytest.mark.parametrize(
    "fact",
    [
        "After the old storm Mira went home to Sarnek with a drum.",
        "In spring Mira works as a smith near the old river.",
        "Question: Where do Mira, Doro and Sani live?\nAnswer: Tolmar, Velmar and Sarnek",
        "Question: What do Mira, Mira and Doro work as?\nAnswer: baker, baker and smith",
        "Tolmic: oke miru tava.\nEnglish: The cat sees the dog.",
        "Review: In this inn the soup was not cold and the bed was clean.\nSentiment: bad",
        "The dogs near the cat sleeps now. The cat waits here.",
    ],
)
def test_what_is_false_in_the_world_has_no_probability(fact: str) -> None:
    assert log2_probability(world.BLOCK, fact) == -math.inf


def test_data_files_are_what_the_script_writes() -> None:
    files = documents.build_files()
    assert files.keys() == {path.name for path in DATA_DIR.iterdir()}
    for name, content in files.items():
        assert (DATA_DIR / name).read_text() == content, f"{name}: run python -m lmeval.demo.documents"


def task_blocks() -> set[str]:
    """Every whole block that a task's documents or shots show."""
    blocks = {block for row in rows("perplexity") for block in row["text"].split(world.BLOCK_SEPARATOR)}
    blocks |= {row["good"] for row in rows("minimal_pairs")}
    for pool in ("", "_shots"):
        blocks |= {f"{row['before']} {row['answer']}{row['after']}" for row in rows(f"cloze{pool}")}
        blocks |= {f"Question: {row['question']}\nAnswer: {row['answer']}" for row in rows(f"qa{pool}")}
        blocks |= {
            f"Review: {row['review']}\nSentiment: {('good', 'bad')[int(row['label'])]}"
            for row in rows(f"classification{pool}")
        }
        blocks |= {
            f"Tolmic: {row['tolmic']}\nEnglish: {row['english']}" for row in rows(f"translation{pool}")
        }
    return blocks


def test_training_never_sees_a_task_document() -> None:
    blocks = task_blocks()
    assert len(blocks) > 1400
    assert all(world.is_held_out(block) for block in blocks)
    assert all(math.isfinite(log2_probability(world.BLOCK, block)) for block in blocks)
    for seed in (TOKENIZER_SEED, TRAINING_SEED):
        seen = set(islice(training_blocks(Random(seed)), 2000))
        assert len(seen) > 1800
        assert not seen & blocks


def test_holding_out_does_not_shift_the_world() -> None:
    """Held-out documents carry the world's entropy, so that it is the floor of a model's score on them."""
    information = [-world.document_log2_probability(row["text"]) for row in rows("perplexity")]
    error = stdev(information) / math.sqrt(len(information))
    assert abs(fmean(information) - world.document_entropy_bits()) < 4 * error


def test_a_minimal_pair_differs_in_one_word_that_the_world_forbids() -> None:
    for row in rows("minimal_pairs"):
        good, bad = (re.findall(r"\w+", row[key]) for key in ("good", "bad"))
        assert sum(one != other for one, other in zip(good, bad, strict=True)) == 1
        assert log2_probability(world.BLOCK, row["bad"]) == -math.inf


def test_no_task_is_solved_by_one_constant_answer() -> None:
    labels = [row["label"] for row in rows("classification")]
    assert 0.4 < fmean(map(float, labels)) < 0.6
    for name in ("qa", "cloze"):
        answers = [row["answer"] for row in rows(name)]
        assert max(answers.count(answer) for answer in set(answers)) < 0.12 * len(answers)
