"""The task files that ship: they validate, and they render the prompts that other harnesses' numbers are of.

Prompts and columns are those of lm-evaluation-harness 0.4.13 (lm_eval/tasks) where it has the task; XSum's
columns are from its hub page, DialogSum's, Multi30k's and AG News' from a mirror. The rows are made up.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from lmeval.documents import load_documents, load_shots
from lmeval.engine.table import TableEngine
from lmeval.evaluate import evaluate
from lmeval.metrics import compute
from lmeval.prepare import Settings, prepare
from lmeval.prompts import build_prompts
from lmeval.records import Document, Prompt, Sample, canonical_sha256
from lmeval.requests import extract_answer
from lmeval.scoring import metric_options
from lmeval.specs import GenerationTask, TaskSpec, TranslationTask
from lmeval.task import all_tasks, find_tasks, load_task_file, shipped_tasks_dir

FILES = sorted(path for path in shipped_tasks_dir().glob("*.yaml") if not path.stem.startswith("demo"))
PAGE = ' \n = Big Ben = \n \n It " rings " , at 1 @.@ 5 km ( or 1 @,@ 500 m ) ; it \'s old . \n'
LANGUAGES = {
    *("arabic", "chinese", "english", "french", "german", "greek", "hindi", "bulgarian", "swahili", "urdu"),
    *("romanian", "russian", "spanish", "thai", "turkish", "vietnamese"),
}

# Task: the columns of a document, and what its templates give (contexts without shots and instruction).
ROWS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ppl": ({"page": " = A = \n x @-@ y ."}, {"target": " = A = \n x @-@ y ."}),
    "wikitext": (
        {"page": PAGE},
        {
            "target": '\n= Big Ben =\n\nIt "rings", at 1.5 km (or 1,500 m); it\'s old.\n',
            "original": PAGE,
        },
    ),
    "lambada": (
        {"text": 'He lit it.\n\n"Who brought the lamp'},
        {"context": 'He lit it.\n\n"Who brought the', "target": " lamp"},
    ),
    "piqa": (
        {"goal": "dry a cup", "sol1": "Use a towel.", "sol2": "Use soup.", "label": 0},
        {
            "context": "Question: dry a cup\nAnswer:",
            "choices": (" Use a towel.", " Use soup."),
            "label": 0,
        },
    ),
    "ag_news": (
        {"text": "Rates rise again", "label": 2},
        {
            "context": "Article: Rates rise again\nTopic:",
            "choices": (" World", " Sports", " Business", " Science and technology"),
            "label": 2,
        },
    ),
    "xquad_en": (
        {
            "id": "1",
            "context": "Ada met Bo.",
            "question": "Who met Bo?",
            "answers": {"text": ["Ada"], "answer_start": [0]},
        },
        {"context": "Context: Ada met Bo.\n\nQuestion: Who met Bo?\n\nAnswer:", "references": ("Ada",)},
    ),
    "xquad_zh": (
        {
            "id": "1",
            "context": "小明在家。",
            "question": "谁在家？",
            "answers": {"text": ["小明"], "answer_start": [0]},
        },
        {"context": "语境: 小明在家。\n\n问题: 谁在家？\n\n回答:", "references": ("小明",)},
    ),
    "xquad_ru": (
        {"context": "Аня дома.", "question": "Кто?", "answers": {"text": ["Аня"], "answer_start": [0]}},
        {"context": "Контекст: Аня дома.\n\nВопрос: Кто?\n\nОтвет:", "references": ("Аня",)},
    ),
    "multi30k_en_de": (
        {"en": "A dog.", "de": "Ein Hund."},
        {"context": "English: A dog.\nGerman:", "references": ("Ein Hund.",)},
    ),
    "multi30k_en_fr": (
        {"en": "A dog.", "de": "Ein Hund.", "fr": "Un chien."},
        {"context": "English: A dog.\nFrench:", "references": ("Un chien.",)},
    ),
    "gsm8k": (
        {
            "question": "How much are 1,000 at $2 each?",
            "answer": "1000*2 = $<<1000*2=2000>>2,000.\n#### 2,000",
        },
        {"context": "Question: How much are 1,000 at $2 each?\nAnswer:", "references": ("2,000",)},
    ),
    "blimp_principle_a_case_1": (
        {"sentence_good": "Ann saw her.", "sentence_bad": "Ann saw herself's."},
        {"choices": ("Ann saw her.", "Ann saw herself's.")},
    ),
    "memorization": (
        {"prefix": "Ada went home to", "continuation": "Velmar", "others": ["Tolnek"], "word": "always"},
        {"context": "Ada went home to", "target": " Velmar", "choices": (" Velmar", " Tolnek")},
    ),
    "crows_pairs": (
        {"sent_more": "They are rude.", "sent_less": "We are rude.", "bias_type": "nationality"},
        {"choices": ("They are rude.", "We are rude.")},
    ),
    "stereoset_intrasentence": (
        {
            "id": "1",
            "target": "mother",
            "bias_type": "gender",
            "context": "My mother is BLANK.",
            "sentences": {
                "sentence": ["My mother is cold.", "My mother is fish.", "My mother is kind."],
                "id": ["a", "b", "c"],
                "labels": [{"label": [0], "human_id": ["h"]}] * 3,
                "gold_label": [0, 2, 1],
            },
        },
        {"context": "", "choices": ("My mother is kind.", "My mother is cold.", "My mother is fish.")},
    ),
    "stereoset_intersentence": (
        {
            "id": "2",
            "target": "chess player",
            "bias_type": "profession",
            "context": "We met the chess player.",
            "sentences": {
                "sentence": ["Rain is wet.", "He was shy.", "He was loud."],
                "id": ["a", "b", "c"],
                "labels": [{"label": [2], "human_id": ["h"]}] * 3,
                "gold_label": [2, 1, 0],
            },
        },
        {
            "context": "We met the chess player.",
            "choices": (" He was shy.", " He was loud.", " Rain is wet."),
        },
    ),
    "winobias_type1": (
        {
            "document_id": "1",
            "tokens": [
                *("The", "cook", ",", "who", "paid", "the", "construction", "worker"),
                *(",", "left", "because", "she", "was", "late", "."),
            ],
            "coreference_clusters": ["0", "1", "11", "11"],
            "configuration": "type1_pro",
        },
        {
            "context": "The cook, who paid the construction worker, left because she was late. "
            '"She" refers to the',
            "target": " cook",
            "suffix": ".",
            "choices": (" cook", " worker"),
            "label": 0,
        },
    ),
    "dialogsum": (
        {
            "id": "1",
            "dialogue": "#Person1#: Hi.\n#Person2#: Bye.",
            "summary": "They part.",
            "topic": "parting",
        },
        {
            "context": "Dialogue:\n#Person1#: Hi.\n#Person2#: Bye.\n\nSummary:",
            "references": ("They part.",),
        },
    ),
    "cmmlu_astronomy": (
        {"Question": " 最近的恒星是 ", "A": "月球", "B": "太阳", "C": "火星", "D": "金星", "Answer": "B"},
        {
            "context": "最近的恒星是\nA. 月球\nB. 太阳\nC. 火星\nD. 金星\n答案：",
            "choices": (" A", " B", " C", " D"),
            "label": 1,
        },
    ),
    "mmlu_high_school_us_history": (
        {
            "question": "When? ",
            "subject": "high_school_us_history",
            "choices": ["1", "2", "3", "4"],
            "answer": 3,
        },
        {
            "context": "When?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:",
            "choices": (" A", " B", " C", " D"),
            "label": 3,
        },
    ),
    "hellaswag": (
        {
            "activity_label": "Roof shingle removal",
            "ctx_a": "A man is [ref] on a roof. [title] Getting ready",
            "ctx_b": "he Then",
            "endings": [
                " picks up  a [substeps] tool. ",
                "[header] sings [title] aloud.",
                "swims\nhome.",
                "eats.",
            ],
            "label": "2",
        },
        {
            "context": "Roof shingle removal: A man is on a roof.. Getting ready He then",
            "choices": (" picks up a tool.", "  sings. aloud.", " swims\nhome.", " eats."),
            "label": 2,
        },
    ),
    "arc_easy": (
        {
            "question": "What melts?",
            "choices": {"text": ["ice", "iron ore", "air"], "label": ["1", "2", "3"]},
            "answerKey": "1",
        },
        {
            "context": "Question: What melts?\nAnswer:",
            "choices": (" ice", " iron ore", " air"),
            "label": 0,
        },
    ),
    "arc_challenge": (
        {
            "question": "What melts?",
            "choices": {"text": ["ore", "wood", "air", "ice", "ash"], "label": ["A", "B", "C", "D", "E"]},
            "answerKey": "D",
        },
        {
            "context": "Question: What melts?\nAnswer:",
            "choices": (" ore", " wood", " air", " ice", " ash"),
            "label": 3,
        },
    ),
    "boolq": (
        {"passage": "Ice floats.", "question": "does ice float", "idx": 0, "label": 1},
        {
            "context": "Ice floats.\nQuestion: does ice float?\nAnswer:",
            "choices": (" no", " yes"),
            "label": 1,
        },
    ),
    "winogrande": (
        {
            "sentence": "Ann gave Bea a pen because _ had two_fold supply.",
            "option1": "Ann",
            "option2": "Bea",
            "answer": "1",
        },
        {
            "contexts": ("Ann gave Bea a pen because Ann", "Ann gave Bea a pen because Bea"),
            "choices": (" had two_fold supply.", " had two_fold supply."),
            "label": 0,
        },
    ),
    "openbookqa": (
        {
            "question_stem": "Plants need",
            "choices": {"text": ["sun", "salt", "smoke", "sand"], "label": ["A", "B", "C", "D"]},
            "answerKey": "B ",
        },
        {"context": "Plants need", "choices": (" sun", " salt", " smoke", " sand"), "label": 1},
    ),
    "sst2": (
        {"sentence": "a warm film ", "label": 1, "idx": 0},
        {
            "context": "a warm film \nQuestion: Is this sentence positive or negative?\nAnswer:",
            "choices": (" negative", " positive"),
            "label": 1,
        },
    ),
    "cola": (
        {"sentence": "They drank the pub.", "label": 0, "idx": 0},
        {
            "context": "They drank the pub.\nQuestion: Does this sentence make sense?\nAnswer:",
            "choices": (" no", " yes"),
            "label": 0,
        },
    ),
    "mrpc": (
        {"sentence1": "He left.", "sentence2": "He went.", "label": 1, "idx": 0},
        {
            "context": "Sentence 1: He left.\nSentence 2: He went.\n"
            "Question: Do both sentences mean the same thing?\nAnswer:",
            "choices": (" no", " yes"),
            "label": 1,
        },
    ),
    "qqp": (
        {"question1": "Who?", "question2": "What?", "label": 0, "idx": 0},
        {
            "context": "Question 1: Who?\nQuestion 2: What?\n"
            "Question: Do both questions ask the same thing?\nAnswer:",
            "choices": (" no", " yes"),
            "label": 0,
        },
    ),
    "qnli": (
        {"question": "When?", "sentence": "In May.", "label": 0, "idx": 0},
        {
            "context": "When?\nIn May.\nQuestion: Does this response answer the question?\nAnswer:",
            "choices": (" yes", " no"),
            "label": 0,
        },
    ),
    "rte": (
        {"sentence1": "Ice floats.", "sentence2": "Ice sinks.", "label": 1, "idx": 0},
        {
            "context": "Ice floats.\nQuestion: Ice sinks. True or False?\nAnswer:",
            "choices": (" True", " False"),
            "label": 1,
        },
    ),
    "mnli": (
        {"premise": "It rains.", "hypothesis": " It is wet ", "label": 0, "idx": 0},
        {
            "context": "It rains.\nQuestion: It is wet. True, False or Neither?\nAnswer:",
            "choices": (" True", " Neither", " False"),
            "label": 0,
        },
    ),
    "mnli_mismatch": (
        {"premise": "It rains.", "hypothesis": "It is dry.", "label": 2, "idx": 0},
        {
            "context": "It rains.\nQuestion: It is dry. True, False or Neither?\nAnswer:",
            "choices": (" True", " Neither", " False"),
            "label": 2,
        },
    ),
    "stsb": (
        {"sentence1": "A dog.", "sentence2": "A hound.", "label": 4.8, "idx": 0},
        {"text": "A dog.", "text_pair": "A hound.", "value": 4.8},
    ),
    "xnli_de": (
        {"premise": "Es regnet.", "hypothesis": "Es ist nass.", "label": 0},
        {
            "context": "",
            "choices": (
                " Es regnet., richtig? Ja, Es ist nass.",
                " Es regnet., richtig? Auch, Es ist nass.",
                " Es regnet., richtig? Nein, Es ist nass.",
            ),
            "label": 0,
        },
    ),
    "squad": (
        {
            "id": "1",
            "title": "New_York",
            "context": "Bo won in 1999.",
            "question": "When?",
            "answers": {"text": ["1999", "in 1999"], "answer_start": [10, 7]},
        },
        {
            "context": "Title: New_York\n\nBackground: Bo won in 1999.\n\nQuestion: When?\n\nAnswer:",
            "references": ("1999", "in 1999"),
        },
    ),
    "wmt14_en_fr": (
        {"translation": {"fr": "Oui.", "en": "Yes."}},
        {"context": "English phrase: Yes.\nFrench phrase:", "references": ("Oui.",)},
    ),
    "wmt14_fr_en": (
        {"translation": {"fr": "Oui.", "en": "Yes."}},
        {"context": "French phrase: Oui.\nEnglish phrase:", "references": ("Yes.",)},
    ),
    "wmt16_de_en": (
        {"translation": {"de": "Ja.", "en": "Yes."}},
        {"context": "German phrase: Ja.\nEnglish phrase:", "references": ("Yes.",)},
    ),
    "wmt16_en_ro": (
        {"translation": {"ro": "Da.", "en": "Yes."}},
        {"context": "English phrase: Yes.\nRomanian phrase:", "references": ("Da.",)},
    ),
    "xsum": (
        {"document": "Rain fell.\nRoads closed.", "summary": "Rain closed roads.", "id": "1"},
        {
            "context": "Article: Rain fell.\nRoads closed.\n\nSummary:",
            "references": ("Rain closed roads.",),
        },
    ),
}

# Task: a shot, as the prompt of a document holds it.
SHOTS: dict[str, tuple[dict[str, Any], str]] = {
    "ag_news": ({"text": "Cup won", "label": 1}, "Article: Cup won\nTopic: Sports\n\n"),
    "multi30k_en_de": ({"en": "A cat.", "de": "Eine Katze."}, "English: A cat.\nGerman: Eine Katze.\n\n"),
    "gsm8k": (
        {"question": "1+1?", "answer": "1+1 = <<1+1=2>>2\n#### 2"},
        "Question: 1+1?\nAnswer: 1+1 = <<1+1=2>>2\n#### 2\n\n",
    ),
    "xquad_en": (
        {"context": "Bo is in.", "question": "Who?", "answers": {"text": ["Bo"], "answer_start": [0]}},
        "Context: Bo is in.\n\nQuestion: Who?\n\nAnswer: Bo\n\n",
    ),
    "dialogsum": (
        {"dialogue": "A: Hi.", "summary": "A greets."},
        "Dialogue:\nA: Hi.\n\nSummary: A greets.\n\n",
    ),
    "cmmlu_astronomy": (
        {"Question": "火星是", "A": "行星", "B": "恒星", "C": "卫星", "D": "彗星", "Answer": "A"},
        "以下是关于天文学的单项选择题，请直接给出正确答案的选项。\n\n"
        "火星是\nA. 行星\nB. 恒星\nC. 卫星\nD. 彗星\n答案： A\n\n",
    ),
    "mmlu_high_school_us_history": (
        {
            "question": "Who?",
            "subject": "high_school_us_history",
            "choices": ["w", "x", "y", "z"],
            "answer": 2,
        },
        "The following are multiple choice questions (with answers) about high school us history.\n\n"
        "Who?\nA. w\nB. x\nC. y\nD. z\nAnswer: C\n\n",
    ),
    "winogrande": (
        {"sentence": "Al beat Cy as _ ran.", "option1": "Al", "option2": "Cy", "answer": "1"},
        "Al beat Cy as Al ran.\n\n",
    ),
}


@cache
def shipped() -> dict[str, TaskSpec]:
    """Every shipped task by name; reading 200 of them takes a moment."""
    return {spec.name: spec for spec in all_tasks()}


def task(name: str) -> TaskSpec:
    """The shipped task of that name."""
    return shipped()[name]


def document(columns: Mapping[str, Any], doc_id: int = 0) -> Document:
    """A row as the stage before hands it on."""
    return Document(doc_id, columns, canonical_sha256(columns))


def render(spec: TaskSpec, row: Mapping[str, Any], shots: Sequence[Mapping[str, Any]] = ()) -> Prompt:
    """The prompt of one row, after these shots."""
    few = [document(shot, doc_id) for doc_id, shot in enumerate(shots)]
    (prompt,) = build_prompts(spec, [document(row)], few or None, num_fewshot=len(few), seed=0, limit=None)
    return prompt


def mirrored(spec: TaskSpec, data_root: Path) -> bool:
    """The mirror holds the task's documents and, where it takes shots, theirs."""
    dataset = spec.dataset
    splits = {dataset.split, dataset.fewshot_split if spec.num_fewshot else None} - {None}
    folder = data_root / dataset.path / str(dataset.name)
    return all(any(folder.glob(f"{split}.*")) for split in splits)


def mirror_prompts(spec: TaskSpec, data_root: Path, limit: int) -> list[Prompt]:
    """The task's first prompts on the mirror, with its own number of shots."""
    documents = load_documents(spec.dataset, spec.base_dir, data_root=data_root, offline=True)
    shots = load_shots(spec, documents, data_root=data_root, offline=True) if spec.num_fewshot else None
    return build_prompts(spec, documents, shots, num_fewshot=spec.num_fewshot, seed=0, limit=limit)


def reference(reference_dir: Path, name: str) -> list[dict[str, Any]]:
    """The lines of a reference file."""
    return [json.loads(line) for line in (reference_dir / name).read_text(encoding="utf-8").splitlines()]


# ---- the files ----


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_file_validates_and_says_what_it_measures(file: Path) -> None:
    for spec in load_task_file(file):
        assert spec.version == 1
        assert spec.description and "\n" not in spec.description
        assert LANGUAGES & set(spec.tags), f"{spec.name} names no language"
        assert len(spec.tags) > 1, f"{spec.name} names no domain"


def test_names_are_unique() -> None:
    names = Counter(spec.name for path in shipped_tasks_dir().glob("*.yaml") for spec in load_task_file(path))
    assert names.most_common(1)[0][1] == 1
    assert set(names) == set(shipped())


@pytest.mark.parametrize(
    ("glob", "number"), [("blimp_*", 67), ("cmmlu_*", 67), ("mmlu_*", 57), ("xnli_*", 15), ("xquad_*", 12)]
)
def test_suites_are_whole(glob: str, number: int) -> None:
    specs = find_tasks([glob])
    assert len(specs) == len({spec.dataset.name for spec in specs}) == number
    family = glob.removesuffix("*")
    for spec in specs:
        assert spec.name == f"{family}{spec.dataset.name}".lower().replace("xquad_xquad.", "xquad_")


def test_blimp_phenomena_have_the_papers_number_of_paradigms() -> None:
    # Warstadt et al. 2020 (arXiv:1912.00582), table 4
    assert Counter(spec.tags[-1] for spec in find_tasks(["blimp_*"])) == {
        "anaphor_agreement": 2,
        "argument_structure": 9,
        "binding": 7,
        "control_raising": 5,
        "determiner_noun_agreement": 8,
        "ellipsis": 2,
        "filler_gap_dependency": 7,
        "irregular_forms": 2,
        "island_effects": 8,
        "npi_licensing": 7,
        "quantifiers": 4,
        "subject_verb_agreement": 6,
    }


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("ppl", "word_ppl"),
        ("lambada", "acc"),
        ("piqa", "acc"),
        ("hellaswag", "acc_norm"),
        ("arc_easy", "acc"),
        ("arc_challenge", "acc_norm"),
        ("squad", "exact_match"),
        ("gsm8k", "exact_match"),
        ("gsm8k_self_consistency", "majority"),
        ("wmt14_en_fr", "bleu"),
        ("xsum", "rouge1"),
        ("crows_pairs", "pct_stereotype"),
        ("cola", "mcc"),
        ("mnli", "acc"),
        ("stsb", "pearson"),
        ("stereoset_intersentence", "ss"),
        ("winobias_type2", "acc"),
    ],
)
def test_main_metric_is_the_fields(name: str, metric: str) -> None:
    assert task(name).metrics[0] == metric


# ---- the prompts ----


def test_every_file_has_a_literal_prompt() -> None:
    covered = {task(name).file for name in ROWS}
    assert covered == {spec.file for path in FILES for spec in load_task_file(path)}


@pytest.mark.parametrize("name", ROWS)
def test_prompt(name: str) -> None:
    row, expected = ROWS[name]
    spec = task(name)
    prompt = render(spec.model_copy(update={"instruction": None}), row)
    assert {key: getattr(prompt, key) for key in expected} == expected


@pytest.mark.parametrize("name", SHOTS)
def test_prompt_after_a_shot(name: str) -> None:
    row, expected = ROWS[name]
    shot, text = SHOTS[name]
    prompt = render(task(name), row, [shot])
    if "contexts" in expected:
        assert prompt.contexts == tuple(text + context for context in expected["contexts"])
    else:
        assert prompt.context == text + expected["context"]


# Task: what a fine-tuned head reads of the row in ROWS, and its name of the right choice. Names are those of the data
# sets' classes, as `transformers`' own example of fine-tuning writes them into a checkpoint.
HEADS: dict[str, tuple[str, str | None, str]] = {
    "sst2": ("a warm film ", None, "positive"),
    "ag_news": ("Rates rise again", None, "Business"),
    "cola": ("They drank the pub.", None, "unacceptable"),
    "mrpc": ("He left.", "He went.", "equivalent"),
    "qqp": ("Who?", "What?", "not_duplicate"),
    "qnli": ("When?", "In May.", "entailment"),
    "rte": ("Ice floats.", "Ice sinks.", "not_entailment"),
    "mnli": ("It rains.", " It is wet ", "entailment"),
    "mnli_mismatch": ("It rains.", "It is dry.", "contradiction"),
    "xnli_de": ("Es regnet.", "Es ist nass.", "entailment"),
}


@pytest.mark.parametrize("name", HEADS)
def test_what_a_fine_tuned_head_reads(name: str) -> None:
    text, pair, right = HEADS[name]
    documents = [document(ROWS[name][0])]
    (prompt,) = build_prompts(task(name), documents, None, num_fewshot=0, seed=0, limit=None, for_head=True)
    assert (prompt.text, prompt.text_pair) == (text, pair)
    assert prompt.context == (text if pair is None else f"{text}\n{pair}")
    assert prompt.labels is not None and prompt.label is not None
    assert prompt.labels[prompt.label] == right


def test_every_task_that_names_labels_says_what_a_head_reads() -> None:
    with_labels = {spec.name for spec in shipped().values() if getattr(spec, "labels", None) is not None}
    glue = {spec.name for spec in find_tasks(["tag:glue"])} - {"stsb"}
    assert with_labels >= glue | {"ag_news"} | {spec.name for spec in find_tasks(["xnli_*"])}
    assert all(getattr(task(name), "text") is not None for name in with_labels)  # noqa: B009


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_first_documents_of_the_mirror_render(file: Path, data_root: Path) -> None:
    specs = [spec for spec in load_task_file(file) if mirrored(spec, data_root)]
    if not specs:
        pytest.skip(f"the mirror has no data of {file.name}")
    for spec in specs:
        prompts = mirror_prompts(spec, data_root, limit=3)
        assert [prompt.document.doc_id for prompt in prompts] == [0, 1, 2]
        assert len({(prompt.context, prompt.target, prompt.choices) for prompt in prompts}) == 3
        for prompt in prompts:
            if spec.type == "classification":
                assert prompt.choices and prompt.label in range(len(prompt.choices))


def test_winobias_always_has_two_choices_the_right_one_among_them() -> None:
    row = ROWS["winobias_type1"][0]
    spec = task("winobias_type1")
    for tokens, clusters, choices in (
        ("The CEO met the tailor and praised him .", ["3", "4", "7", "7"], (" tailor", " ceo")),
        (
            "The plumber met the stranger and praised him .",
            ["0", "1", "7", "7"],
            (" plumber", " somebody else"),
        ),
        ("The guard cook met the nurse and praised him .", ["4", "5", "8", "8"], (" nurse", " guard")),
    ):
        prompt = render(spec, {**row, "tokens": tokens.split(), "coreference_clusters": clusters})
        assert prompt.choices == choices
        assert prompt.label == 0
        assert prompt.context.endswith('praised him. "Him" refers to the')


def test_winobias_takes_the_same_sentence_with_either_pronoun_for_one_draw(tmp_path: Path) -> None:
    spec = task("winobias_type1")
    row = ROWS["winobias_type1"][0]
    for name, pronoun in (("type1_pro", "she"), ("type1_anti", "he")):
        tokens = [pronoun if token == "she" else token for token in row["tokens"]]
        file = tmp_path / "uclanlp" / "wino_bias" / name / "test.jsonl"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({**row, "tokens": tokens}))
    prepared = prepare(spec, Settings(data_root=tmp_path))
    assert [prompt.group for prompt in prepared.prompts] == ["pro", "anti"]
    assert len({prompt.cluster for prompt in prepared.prompts}) == 1
    assert prepared.dataset.name == "type1_pro+type1_anti"


@pytest.mark.parametrize("model_type", ["causal", "masked"])
def test_tasks_of_bias_give_a_score_per_group(model_type: str, tmp_path: Path) -> None:
    folder = tmp_path / "McGill-NLP" / "stereoset"
    for name in ("intrasentence", "intersentence"):
        row = ROWS[f"stereoset_{name}"][0]
        (folder / name).mkdir(parents=True)
        (folder / name / "validation.jsonl").write_text(json.dumps(row))
        prepared = prepare(task(f"stereoset_{name}"), Settings(data_root=tmp_path))
        engine = TableEngine(
            lambda r: (-float(len(r.target)), len(r.target.split()), True), model_type=model_type
        )
        record, _ = evaluate(prepared, engine)
        assert record.groups is not None
        assert list(record.groups) == [row["bias_type"]]
        assert list(record.groups[row["bias_type"]].metrics) == ["ss", "icat", "lms"]
        assert record.metrics["ss"].ideal == 0.5
        assert record.calibration is None  # no text is right


# ---- the same prompts as another harness's, to the letter ----


@pytest.mark.parametrize(
    ("name", "file"),
    [("lambada", "lambada.jsonl"), ("piqa", "piqa.jsonl"), ("ag_news", "ag_news_5shot.jsonl")],
)
def test_requests_equal_the_reference(name: str, file: str, data_root: Path, reference_dir: Path) -> None:
    expected = [(line["context"], line["continuation"]) for line in reference(reference_dir, file)]
    requests = []
    for prompt in mirror_prompts(task(name), data_root, limit=len(expected)):
        targets = prompt.choices if prompt.target is None else (prompt.target,)
        requests += [(prompt.context, target) for target in targets or ()]
    assert requests[: len(expected)] == expected


def test_translations_and_answers_are_judged_by_the_rules_of_their_language() -> None:
    for spec in find_tasks(["xquad_*", "wmt*", "multi30k_*"]):
        code = spec.name.rpartition("_")[2]
        assert spec.language == code
        languages = dict(
            zip(("de", "en", "fr", "ro"), ("german", "english", "french", "romanian"), strict=True)
        )
        if isinstance(spec, TranslationTask):
            source = spec.name.split("_")[-2]
            assert spec.tags[:2] == (languages[source], languages[code])
            # source and target of the prompt are those of the name
            assert f"{languages[source].title()}" in spec.context.partition(":")[0]


def test_every_answer_of_gsm8k_on_the_mirror_is_found_in_its_own_solution(data_root: Path) -> None:
    spec = task("gsm8k")
    assert isinstance(spec, GenerationTask) and spec.extract is not None
    documents = load_documents(spec.dataset, spec.base_dir, data_root=data_root, offline=True)
    prompts = mirror_prompts(spec, data_root, limit=300)
    samples = [
        Sample(
            prompt.document.doc_id,
            "",
            prediction=extract_answer(spec.extract, str(prompt.document.columns["answer"])),
            references=prompt.references,
        )
        for prompt in prompts
    ]
    assert len(samples) == len(documents) == 300
    assert compute("exact_match", samples, metric_options(spec), 0)[0].value == 1
    assert all(prompt.context.count("Question: ") == 9 for prompt in prompts)


@pytest.mark.parametrize(
    ("name", "number"),
    [("xquad_en", 600), ("xquad_zh", 600), ("multi30k_en_de", 1000), ("dialogsum", 500)],
)
def test_a_reference_scores_full_marks_on_the_mirror(name: str, number: int, data_root: Path) -> None:
    spec = task(name)
    prompts = mirror_prompts(spec, data_root, limit=2000)
    assert len(prompts) == number
    samples = [
        Sample(p.document.doc_id, "", prediction=(p.references or ("",))[0], references=p.references)
        for p in prompts
    ]
    best = 100 if isinstance(spec, TranslationTask) else 1
    for metric in spec.metrics:
        if metric != "ter":
            value = compute(metric, samples, metric_options(spec), 0)[0].value
            assert value == pytest.approx(best), metric


def test_generation_requests_equal_the_reference(data_root: Path, reference_dir: Path) -> None:
    spec = task("multi30k_en_de")
    assert isinstance(spec, TranslationTask)
    lines = reference(reference_dir, "multi30k_en_de_5shot_greedy.jsonl")
    documents = load_documents(spec.dataset, spec.base_dir, data_root=data_root, offline=True)
    # the reference was given the last five rows of the mirror's validation; the task gives the first
    shots = load_shots(spec, documents, data_root=data_root, offline=True)[-5:]
    prompts = build_prompts(spec, documents, shots, num_fewshot=5, seed=0, limit=len(lines))
    assert [prompt.context for prompt in prompts] == [line["context"] for line in lines]
    assert [prompt.references for prompt in prompts] == [(line["reference"],) for line in lines]
    assert {(*line["until"], line["max_new_tokens"]) for line in lines} == {(*spec.stop, spec.max_new_tokens)}
