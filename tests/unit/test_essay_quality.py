"""What is read of an essay: counted as a reader would count it, and scored so that each sign of quality tells."""

from dataclasses import replace
from typing import Any

import pytest

from implementations.judging.essay_quality import READ_CHARACTERS, EssayTraits, read_essay

FAIR = EssayTraits(
    words=300,
    paragraphs=3,
    distinct_share=0.5,
    long_word_share=0.15,
    capital_share=0.8,
    slip_share=0.02,
    connectives=("because", "however"),
    is_whole=True,
)
BEST = EssayTraits(
    words=1_000_000,
    paragraphs=6,
    distinct_share=0.5,
    long_word_share=0.25,
    capital_share=1.0,
    slip_share=0.0,
    connectives=tuple("abcdefghi"),
    is_whole=True,
)
WORST = EssayTraits(
    words=0,
    paragraphs=0,
    distinct_share=0.2,
    long_word_share=0.05,
    capital_share=0.0,
    slip_share=0.06,
    connectives=(),
    is_whole=True,
)


@pytest.mark.parametrize(
    ("sign", "better"),
    [
        ("words", 310),
        ("paragraphs", 4),
        ("distinct_share", 0.51),
        ("long_word_share", 0.16),
        ("capital_share", 0.81),
        ("slip_share", 0.01),
        ("connectives", ("because", "however", "yet")),
    ],
)
def test_each_sign_of_quality_raises_the_score(sign: str, better: Any) -> None:
    assert replace(FAIR, **{sign: better}).score > FAIR.score


@pytest.mark.parametrize(
    ("sign", "beyond"),
    [("paragraphs", 60), ("distinct_share", 1.0), ("long_word_share", 1.0), ("connectives", tuple("abcdefghijk"))],
)
def test_no_sign_counts_beyond_its_best_so_that_none_decides_alone(sign: str, beyond: Any) -> None:
    assert BEST.score == pytest.approx(10.0)
    assert replace(BEST, **{sign: beyond}).score == BEST.score


@pytest.mark.parametrize(("sign", "beyond"), [("distinct_share", 0.0), ("long_word_share", 0.0), ("slip_share", 1.0)])
def test_no_sign_takes_points_away(sign: str, beyond: Any) -> None:
    without_style = replace(WORST, words=400)
    assert WORST.score == read_essay("").score == 0.0
    assert replace(without_style, **{sign: beyond}).score == without_style.score > 0.0


def test_a_few_words_earn_little_for_style() -> None:
    assert replace(BEST, words=20, distinct_share=1.0, paragraphs=1, connectives=()).score < 1.0


def test_words_paragraphs_and_sentences_are_those_that_a_reader_sees() -> None:
    essay = "Because the rule is fair, we agree.\nIt helps us.\n \n\n“however it works!” said Tom.\n\nHowever - so.\n"
    assert read_essay(essay) == EssayTraits(
        words=18,
        paragraphs=3,
        distinct_share=15 / 18,
        long_word_share=3 / 18,
        capital_share=3 / 5,
        slip_share=0.0,
        connectives=("however", "because"),
        is_whole=True,
    )


@pytest.mark.parametrize(
    ("text", "slips"),
    [
        ("So i think", 1),
        ("So I think", 0),
        ("They dont, realy!", 2),
        ("Read the The rule", 1),
        ("He had had enough of that that day", 0),
    ],
)
def test_slips_are_a_small_i_a_known_misspelling_and_a_word_twice(text: str, slips: int) -> None:
    assert read_essay(text).slip_share * len(text.split()) == pytest.approx(slips)


def test_of_a_long_text_the_beginning_is_read_and_said_to_be_no_more() -> None:
    whole = "word " * (READ_CHARACTERS // 5)
    assert read_essay(whole) == replace(read_essay(f"{whole}more"), is_whole=True)
    assert not read_essay(f"{whole}more").is_whole
