"""From texts to windows: the join, special tokens, truncation, rolling windows; with real tokenizers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmeval.engine.base import collect
from lmeval.engine.causal_windows import (
    Window,
    causal_windows,
    generation_prompts,
    rolling_windows,
    target_start,
)
from lmeval.engine.masked_spans import masked_spans
from lmeval.engine.tokenization import Encoding, TextEncoder, move_trailing_space
from lmeval.errors import ModelError, RequestError
from lmeval.records import GenerationRequest, ScoreRequest
from tests.engine import small_tokenizers

BYTE_LEVELS = {
    "plain": {},
    "prefix_space": {"add_prefix_space": True},
    "trim_offsets": {"trim_offsets": True},
    "both": {"add_prefix_space": True, "trim_offsets": True},
}


def encoder_of(tokenizer: Any) -> TextEncoder:
    return TextEncoder(tokenizer, "small")


def window_of(tokenizer: Any, context: str, target: str, max_length: int = 1000) -> Window:
    [[window]] = causal_windows([ScoreRequest(context, target)], encoder_of(tokenizer), max_length)
    return window


def split(tokenizer: Any, context: str, target: str, max_length: int = 1000) -> tuple[list[str], list[str]]:
    """The tokens that are read only, and those that are scored."""
    window = window_of(tokenizer, context, target, max_length)
    tokens = tokenizer.convert_ids_to_tokens(window.ids.tolist())
    return tokens[: window.start], tokens[window.start :]


@pytest.mark.parametrize("kind", BYTE_LEVELS)
def test_context_and_target_are_encoded_together_and_split_at_their_join(kind: str) -> None:
    tokenizer = small_tokenizers.byte_level(**BYTE_LEVELS[kind])
    read, scored = split(tokenizer, "the cat sat on", " the mat")
    assert scored == ["Ġthe", "Ġ", "m", "at"]
    assert read == tokenizer.convert_ids_to_tokens(tokenizer("the cat sat on")["input_ids"])


@pytest.mark.parametrize("kind", BYTE_LEVELS)
@pytest.mark.parametrize("space", [" ", "\n", "  ", "\n\n", "\t", "\u3000"])
def test_trailing_white_space_of_the_context_moves_to_the_target(kind: str, space: str) -> None:
    tokenizer = small_tokenizers.byte_level(**BYTE_LEVELS[kind])
    assert split(tokenizer, "the cat" + space, "sat on") == split(tokenizer, "the cat", space + "sat on")
    read, scored = split(tokenizer, "the cat" + space, "sat on")
    assert read == tokenizer.convert_ids_to_tokens(tokenizer("the cat")["input_ids"])
    assert tokenizer.convert_tokens_to_string(scored) == space + "sat on"


def test_only_trailing_white_space_moves() -> None:
    assert move_trailing_space(" a b \n", "c") == (" a b", " \nc")
    assert move_trailing_space("a", " c") == ("a", " c")
    assert move_trailing_space("  ", "c") == ("", "  c")


def test_a_token_that_spans_the_join_belongs_to_the_target() -> None:
    tokenizer = small_tokenizers.byte_level()
    # "th" + "e": alone "th" is two tokens, together the word is t + he
    assert split(tokenizer, "she sat on th", "e mat") == (
        tokenizer.convert_ids_to_tokens(tokenizer("she sat on")["input_ids"]),
        ["Ġthe", "Ġ", "m", "at"],
    )


def test_a_token_that_spans_the_join_of_the_whole_context_leaves_only_the_prefix_to_read() -> None:
    read, scored = split(small_tokenizers.byte_level(), " t", "he cat")
    assert (read, scored) == (["<|end|>"], ["Ġthe", "Ġc", "at"])
    read, scored = split(small_tokenizers.byte_level_with_bos(), " t", "he cat")
    assert (read, scored) == (["<bos>"], ["Ġthe", "Ġc", "at"])


def test_the_split_is_at_the_last_boundary_that_both_encodings_share() -> None:
    whole = Encoding([1, 2, 3], [(0, 2), (2, 3), (3, 6)], None)  # ab c def
    context = Encoding([4, 5, 6], [(0, 2), (2, 4), (4, 5)], None)  # ab cd e
    assert target_start(whole, context, join=5) == 1  # 3 is no boundary of the context
    context = Encoding([1, 2, 7], [(0, 2), (2, 3), (3, 5)], None)  # ab c de
    assert target_start(whole, context, join=5) == 2
    assert target_start(whole, context, join=3) == 2
    assert target_start(whole, context, join=6) == 3  # nothing is left for the target


def test_a_slow_tokenizer_without_offsets_is_split_where_the_encodings_part() -> None:
    assert target_start(Encoding([1, 2, 3, 4], None, None), Encoding([1, 2, 9], None, None), join=7) == 2
    assert target_start(Encoding([1, 2], None, None), Encoding([1, 2], None, None), join=7) == 2


@pytest.mark.parametrize(
    ("context", "target"), [("日", "本"), ("smile 🙂", "🙃"), ("caf", "é"), ("日本", "語の"), ("x", "🙂🙂")]
)
def test_characters_of_several_bytes_stay_whole_at_the_join(context: str, target: str) -> None:
    for tokenizer in (small_tokenizers.byte_level(), small_tokenizers.byte_level_with_bos()):
        read, scored = split(tokenizer, context, target)
        assert tokenizer.convert_tokens_to_string(scored) == target
        assert tokenizer.convert_tokens_to_string(read).removeprefix("<bos>") == context


def test_a_token_of_two_characters_bytes_is_scored_with_the_whole_first_character() -> None:
    tokenizer = small_tokenizers.byte_level_merging_across_characters()
    read, scored = split(tokenizer, "猫日", "本")
    assert "¥æ" in scored and tokenizer.convert_tokens_to_string(scored) == "日本"
    assert tokenizer.convert_tokens_to_string(read) == "猫"
    read, scored = split(tokenizer, "日", "本")
    assert (read, tokenizer.convert_tokens_to_string(scored)) == (["<|end|>"], "日本")


def test_a_space_is_part_of_the_word_behind_it_in_sentencepieces() -> None:
    tokenizer = small_tokenizers.metaspace_with_bos()
    assert split(tokenizer, "the cat", " sat") == (["<s>", "▁the", "▁cat"], ["▁sat"])
    assert split(tokenizer, "the cat ", "sat") == (["<s>", "▁the", "▁cat"], ["▁sat"])
    assert split(tokenizer, "the c", "at sat") == (["<s>", "▁the"], ["▁cat", "▁sat"])


@pytest.mark.parametrize("make", [small_tokenizers.byte_level_with_bos, small_tokenizers.metaspace_with_bos])
@pytest.mark.parametrize(("context", "target"), [("the cat", " sat"), ("", "the cat"), ("  ", "the cat")])
def test_bos_stands_first_once_and_is_never_scored(make: Any, context: str, target: str) -> None:
    tokenizer = make()
    bos = tokenizer.bos_token
    for text in (context, bos + context):
        read, scored = split(tokenizer, text, target)
        assert read[0] == bos and bos not in read[1:] + scored
    for text in (target, bos + target):
        [[window]] = causal_windows([ScoreRequest("", text, whole_text=True)], encoder_of(tokenizer), 100)
        assert window.start == 1
        assert window.ids.tolist().count(tokenizer.bos_token_id) == 1
        read, scored = split(tokenizer, "", text)
        assert read == [bos] and bos not in scored
    [prompt] = generation_prompts([GenerationRequest(bos + "the cat", (), 4)], encoder_of(tokenizer), 100)
    assert prompt.ids.tolist().count(tokenizer.bos_token_id) == 1


def test_a_tokenizer_that_adds_no_bos_gets_none_before_a_context() -> None:
    tokenizer = small_tokenizers.byte_level()
    assert not encoder_of(tokenizer).adds_bos
    assert split(tokenizer, "the cat", " sat")[0][0] != "<|end|>"
    assert split(tokenizer, "", "the cat")[0] == ["<|end|>"]


def test_an_eos_or_sep_that_a_tokenizer_appends_never_stands_behind_the_context() -> None:
    eos = small_tokenizers.eos_appending()
    assert eos("the cat")["input_ids"][-1] == eos.eos_token_id
    read, scored = split(eos, "the cat", " sat")
    assert "<eos>" not in read + scored
    assert split(eos, "", "the cat")[0] == ["<eos>"]  # an empty context stands on EOS where there is no BOS
    [prompt] = generation_prompts([GenerationRequest("the cat", (), 4)], encoder_of(eos), 100)
    assert eos.eos_token_id not in prompt.ids
    bert = small_tokenizers.word_piece()
    [[span]] = masked_spans([ScoreRequest("the cat", " sat", " on")], encoder_of(bert), 100)
    assert bert.convert_ids_to_tokens(span.ids.tolist()) == ["[CLS]", "the", "cat", "sat", "on", "[SEP]"]


def test_a_tokenizer_with_neither_bos_nor_eos_is_refused_for_an_empty_context_only() -> None:
    bert = small_tokenizers.word_piece()
    assert split(bert, "the cat", " sat") == (["the", "cat"], ["sat"])
    with pytest.raises(ModelError, match="neither a BOS nor an EOS"):
        window_of(bert, "", "the cat")


def test_a_context_that_is_too_long_loses_its_beginning_and_keeps_the_target() -> None:
    tokenizer = small_tokenizers.byte_level()
    full = window_of(tokenizer, "the cat sat on the mat and", " the dog")
    assert not full.truncated
    size = len(full.ids) - 1  # the last token is predicted, not read
    assert not window_of(tokenizer, "the cat sat on the mat and", " the dog", size).truncated
    for max_length in (size - 1, 6, len(full.ids) - full.start):
        cut = window_of(tokenizer, "the cat sat on the mat and", " the dog", max_length)
        assert cut.truncated
        assert cut.ids.tolist() == full.ids[-max_length - 1 :].tolist()
        assert cut.ids[cut.start :].tolist() == full.ids[full.start :].tolist()


@pytest.mark.parametrize("context", ["the cat", ""])
def test_a_target_longer_than_the_window_is_refused_with_its_request(context: str) -> None:
    encoder = encoder_of(small_tokenizers.byte_level())
    requests = [ScoreRequest("the cat", " sat"), ScoreRequest(context, " the dog sat on the log")]
    with pytest.raises(RequestError, match="more than the model's window of 4") as refused:
        collect(causal_windows(requests, encoder, 4))
    assert refused.value.index == 1 and refused.value.fix is not None and "--max-length" in refused.value.fix


@pytest.mark.parametrize(
    "request_", [ScoreRequest("the cat", ""), ScoreRequest("", ""), ScoreRequest("", "", whole_text=True)]
)
@pytest.mark.parametrize("make", [small_tokenizers.byte_level, small_tokenizers.metaspace_with_bos])
def test_a_target_of_no_tokens_is_refused(request_: ScoreRequest, make: Any) -> None:
    with pytest.raises(RequestError, match="no tokens of its own"):
        collect(causal_windows([request_], encoder_of(make()), 100))


def test_a_text_that_is_nothing_but_bos_has_no_tokens() -> None:
    encoder = encoder_of(small_tokenizers.metaspace_with_bos())
    for request in (ScoreRequest("", "<s>", whole_text=True), ScoreRequest("", "<s>")):
        with pytest.raises(RequestError, match="no tokens of its own"):
            collect(causal_windows([request], encoder, 100))


def test_a_target_that_the_tokenizer_drops_is_refused() -> None:
    bert = encoder_of(small_tokenizers.word_piece())
    with pytest.raises(RequestError, match="no tokens of its own"):
        collect(causal_windows([ScoreRequest("the cat", "  ")], bert, 100))
    with pytest.raises(RequestError, match="no tokens of its own"):
        collect(masked_spans([ScoreRequest("the cat", "  ", " sat")], bert, 100))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.integers(2, 50), min_size=1, max_size=60),
    st.integers(1, 20),
    st.none() | st.integers(1, 25),
    st.booleans(),
)
def test_rolling_windows_score_each_token_once_behind_as_much_as_fits(
    ids: list[int], max_length: int, stride: int | None, has_bos: bool
) -> None:
    full = [1, *ids]
    windows = rolling_windows(full if has_bos else ids, 1, max_length, stride)
    step = min(stride or max_length, max_length)
    done = 1
    for number, window in enumerate(windows):
        size = len(window.ids)
        assert 1 <= window.start < size <= max_length + 1  # of which the last is predicted, not read
        end = done + size - window.start
        assert window.ids.tolist() == full[end - size : end]
        assert not window.truncated
        if number == 0:
            assert end == min(len(full), max_length + 1)
        else:
            assert size == max_length + 1  # filled up to the left
            assert end - done == step or end == len(full)
        done = end
    assert done == len(full)


def test_a_stride_gives_each_token_more_to_stand_on() -> None:
    windows = rolling_windows(list(range(2, 12)), 1, 4, stride=2)
    assert [(window.ids.tolist(), window.start) for window in windows] == [
        ([1, 2, 3, 4, 5], 1),
        ([3, 4, 5, 6, 7], 3),
        ([5, 6, 7, 8, 9], 3),
        ([7, 8, 9, 10, 11], 3),
    ]


def test_generation_prompts_leave_room_for_what_is_written() -> None:
    tokenizer = small_tokenizers.byte_level_with_bos()
    ids = tokenizer("the cat sat on the mat")["input_ids"]
    requests = [GenerationRequest("the cat sat on the mat", (), 4), GenerationRequest("", (), 4)]
    fits, empty = generation_prompts(requests, encoder_of(tokenizer), len(ids) + 4)
    assert (fits.ids.tolist(), fits.truncated) == (ids, False)
    assert (empty.ids.tolist(), empty.truncated) == ([tokenizer.bos_token_id], False)
    cut, _ = generation_prompts(requests, encoder_of(tokenizer), len(ids) + 1)
    assert (cut.ids.tolist(), cut.truncated) == (ids[3:], True)
    with pytest.raises(RequestError, match="leaves no room") as refused:
        collect(generation_prompts([requests[0], GenerationRequest("x", (), 9)], encoder_of(tokenizer), 9))
    assert refused.value.index == 1


def test_a_generation_prompt_keeps_its_trailing_white_space() -> None:
    tokenizer = small_tokenizers.byte_level()
    [prompt] = generation_prompts([GenerationRequest("the cat ", (), 4)], encoder_of(tokenizer), 100)
    assert tokenizer.decode(prompt.ids.tolist()) == "the cat "


def test_the_tokenizers_own_truncation_and_padding_are_switched_off() -> None:
    tokenizer = small_tokenizers.byte_level()
    tokenizer.backend_tokenizer.enable_truncation(3)
    tokenizer.backend_tokenizer.enable_padding(length=50)
    assert len(window_of(tokenizer, "the cat sat on the mat and", " the dog").ids) == 15


def test_the_record_tells_tokenizers_apart_by_what_they_do() -> None:
    def sha(tokenizer: Any) -> str:
        return encoder_of(tokenizer).record().sha256

    assert sha(small_tokenizers.byte_level()) == sha(small_tokenizers.byte_level())
    assert sha(small_tokenizers.byte_level()) != sha(small_tokenizers.byte_level(add_prefix_space=True))
    assert sha(small_tokenizers.byte_level()) != sha(small_tokenizers.byte_level_with_bos())
    assert encoder_of(small_tokenizers.byte_level_with_bos()).record().adds_bos
    assert not encoder_of(small_tokenizers.word_piece()).record().adds_bos


def test_half_a_surrogate_pair_is_refused_not_crashed_on() -> None:
    encoder, bert = encoder_of(small_tokenizers.byte_level()), encoder_of(small_tokenizers.word_piece())
    for requests in (
        [ScoreRequest("the cat", " sat"), ScoreRequest("the cat", " \ud83d")],
        [ScoreRequest("the cat", " sat"), ScoreRequest("\udc00 the cat", " sat")],
    ):
        for windows in (causal_windows(requests, encoder, 100), masked_spans(requests, bert, 100)):
            with pytest.raises(RequestError, match="half a surrogate pair") as refused:
                collect(windows)
            assert refused.value.index == 1
    with pytest.raises(RequestError, match="half a surrogate pair"):
        collect(generation_prompts([GenerationRequest("the \ud83d", (), 4)], encoder, 100))


def test_masked_spans_know_their_words() -> None:
    bert = small_tokenizers.word_piece()
    [[span]] = masked_spans([ScoreRequest("", "hello cat", whole_text=True)], encoder_of(bert), 100)
    tokens = bert.convert_ids_to_tokens(span.ids.tolist())
    assert tokens == ["[CLS]", "he", "##l", "##l", "##o", "cat", "[SEP]"]
    assert span.scored.tolist() == [1, 2, 3, 4, 5]
    assert span.words.tolist() == [-1, 0, 0, 0, 0, 1, -1]


@settings(max_examples=100, deadline=None)
@given(st.integers(3, 12), st.integers(1, 30))
def test_masked_windows_score_each_token_once(max_length: int, num_words: int) -> None:
    bert = encoder_of(small_tokenizers.word_piece())
    text = " ".join(["cat", "dog", "mat", "log", "she"][i % 5] for i in range(num_words))
    [spans] = masked_spans([ScoreRequest("", text, whole_text=True)], bert, max_length)
    scored = [int(token) for span in spans for token in span.ids[span.scored]]
    assert scored == bert.encode(text)
    assert all(len(span.ids) == min(max_length, num_words + 2) for span in spans)
    assert all(np.all(np.diff(span.scored) == 1) and not span.truncated for span in spans)
