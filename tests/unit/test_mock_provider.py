"""The mock judge: repeatable, mostly fair, honest about the essays, and faulty only when asked to be."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from random import Random
from statistics import correlation, fmean

import pytest

from api_models import ProviderName, Winner
from exceptions import NoUsableProviderError, ProviderUnavailableError
from implementations.judging.catalogue import MOCK_MODEL
from implementations.judging.essay import Essay
from implementations.judging.essay_quality import read_essay
from implementations.mock_provider_impl import MockProviderImpl
from protocols import MockKnobs, ProviderRequest, Verdict
from tests.fakes import InstantSleep, prompt, request

pytestmark = pytest.mark.untraced

ROOT = Path(__file__).parents[2]
KNOBS = MockKnobs(seed=7, error_rate=0.0, latency_ms=0, latency_jitter_ms=0, position_bias=0.1)
UNBIASED = replace(KNOBS, position_bias=0.0)
PLAIN = "we have our phone at school and it is good or bad for you but they do not like this rule very much so"
RICH = """
    attention distraction responsibility classroom opinion teachers emergency learning temptation argument reasonable
    consequence experience community discipline technology friendship interruption privacy balance corridor homework
    solution parents practical evidence trust habit silence concentrate
"""
LINKS = "because however although therefore whereas besides finally since unless yet"
SWAPPED = str.maketrans("AB", "BA")
HOSTILE_TEXTS = (
    "😀" * 500,
    "😀 🎉 " * 50,
    ".",
    "\u200b",
    "x" * 200_000,
    "word. " * 350_000,
    "\n" * 2_000_000,
    "\ud800",
)


def ask(
    essay_a: str,
    essay_b: str,
    knobs: MockKnobs | None = KNOBS,
    replicate: int = 0,
    *,
    system: str = "You judge.",
    task: str = "Which essay is better?",
) -> ProviderRequest:
    asked = replace(prompt(), system=system, task=task, essay_a=Essay(essay_a), essay_b=Essay(essay_b))
    return request(provider=ProviderName.MOCK, model=MOCK_MODEL, prompt=asked, replicate=replicate, mock=knobs)


async def judge(asked: ProviderRequest) -> Verdict:
    return (await MockProviderImpl(sleep=InstantSleep()).generate_comparison(asked)).verdict


async def preferred(essay_a: str, essay_b: str, knobs: MockKnobs = KNOBS, replicate: int = 0) -> str:
    verdict = await judge(ask(essay_a, essay_b, knobs, replicate))
    return essay_a if verdict.winner is Winner.ESSAY_A else essay_b


def example(name: str) -> str:
    return (ROOT / "examples" / "essays" / f"{name}.txt").read_text(encoding="utf-8")


def write_sentence(quality: float, draws: Random) -> str:
    """Write one sentence; the better the pupil, the richer, the better linked and the more careful."""
    vocabularies = [RICH if draws.random() < quality / 2 else PLAIN for _ in range(draws.randint(8, 18))]
    words = [draws.choice(vocabulary.split()) for vocabulary in vocabularies]
    if draws.random() < quality / 3:
        words[draws.randrange(1, len(words))] = draws.choice(LINKS.split())
    if draws.random() > quality:
        words[draws.randrange(len(words))] = draws.choice(["i", "dont", "realy"])
    sentence = " ".join(words) + "."
    return sentence[0].upper() + sentence[1:] if draws.random() < 0.5 + quality else sentence


def write_essay(quality: float, draws: Random) -> str:
    """Write like a pupil of the given quality, from 0 to 1."""
    paragraphs = 1 + round(quality * 5 + draws.random())
    lengths = [round(4 + 3 * quality + draws.random()) for _ in range(paragraphs)]
    return "\n\n".join(" ".join(write_sentence(quality, draws) for _ in range(length)) for length in lengths)


def mixed_pairs(seed: int, count: int = 300) -> list[tuple[str, str]]:
    draws = Random(seed)
    return [(write_essay(draws.random(), draws), write_essay(draws.random(), draws)) for _ in range(count)]


async def share_kept(pairs: Sequence[tuple[str, str]], knobs: MockKnobs) -> float:
    kept = [await preferred(one, other, knobs) == await preferred(other, one, knobs) for one, other in pairs]
    return fmean(kept)


async def test_probe_says_that_the_judge_is_ready() -> None:
    assert await MockProviderImpl(sleep=InstantSleep()).probe() == "The mock judge is ready."


async def test_request_without_knobs_is_refused() -> None:
    with pytest.raises(NoUsableProviderError):
        await judge(ask("One.", "Two.", knobs=None))


async def test_reply_names_the_mock_and_plausible_usage() -> None:
    asked = ask(example("good"), example("fair"))
    reply = await MockProviderImpl(sleep=InstantSleep()).generate_comparison(asked)
    assert (reply.provider, reply.purchase.model, reply.purchase.cost_usd) == (ProviderName.MOCK, MOCK_MODEL, None)
    assert reply.purchase.usage.prompt == asked.prompt.size_bytes // 4
    assert reply.purchase.usage.completion == len(reply.verdict.justification) // 4 + 20


async def test_same_questions_get_the_same_verdicts_from_any_instance_in_any_order() -> None:
    questions = [ask(one, other) for one, other in mixed_pairs(seed=1, count=40)]
    in_turn = [await judge(question) for question in questions]

    async def pause(_: float) -> None:
        await asyncio.sleep(0)

    shared = MockProviderImpl(sleep=pause)
    knobs = replace(KNOBS, latency_ms=1, latency_jitter_ms=5)
    backwards = [replace(question, mock=knobs) for question in reversed(questions)]
    at_once = await asyncio.gather(*(shared.generate_comparison(question) for question in backwards))
    assert [reply.verdict for reply in reversed(at_once)] == in_turn


async def test_another_process_gives_the_same_verdicts() -> None:
    code = (
        "import asyncio\n"
        "from tests.unit import test_mock_provider as here\n"
        "for one, other in here.mixed_pairs(seed=2, count=20):\n"
        "    print(asyncio.run(here.judge(here.ask(one, other))))\n"
    )
    command = [sys.executable, "-c", code]
    fresh = await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, env={"PYTHONHASHSEED": "99"}, capture_output=True, text=True, check=True
    )
    here = [await judge(ask(one, other)) for one, other in mixed_pairs(seed=2, count=20)]
    assert fresh.stdout.splitlines() == [str(verdict) for verdict in here]


@pytest.mark.parametrize("seed", [11, 12, 13])
async def test_about_one_verdict_in_ten_depends_on_the_order_shown(seed: int) -> None:
    assert 0.85 <= await share_kept(mixed_pairs(seed), replace(KNOBS, seed=seed)) <= 0.95


async def test_swapped_pair_gets_the_mirrored_reply_without_position_bias() -> None:
    for one, other in mixed_pairs(seed=4, count=30):
        verdict, mirrored = await judge(ask(one, other, UNBIASED)), await judge(ask(other, one, UNBIASED))
        assert mirrored.winner is not verdict.winner
        assert mirrored.confidence == verdict.confidence
        assert mirrored.justification.translate(SWAPPED) == verdict.justification


async def test_full_position_bias_decides_all_but_overwhelming_pairs() -> None:
    knobs = replace(KNOBS, position_bias=1.0)
    good, fair = example("good"), example("fair")
    assert await preferred(good, fair, knobs) == good
    assert await preferred(fair, good, knobs) == fair
    assert await preferred(example("weak"), example("strong"), knobs) == example("strong")


@pytest.mark.parametrize("lesser", ["weak", "fair"])
async def test_clearly_better_essay_wins_in_both_orders_under_every_seed(lesser: str) -> None:
    better, worse = example("strong"), example(lesser)
    for seed in range(0, 201, 10):
        knobs = replace(KNOBS, seed=seed, position_bias=1.0)
        for replicate in (0, 20):
            assert await preferred(better, worse, knobs, replicate) == better
            assert await preferred(worse, better, knobs, replicate) == better


def test_example_essays_are_scored_in_their_order() -> None:
    scores = [read_essay(example(name)).score for name in ("strong", "good", "fair", "weak")]
    assert scores == sorted(scores, reverse=True)


async def test_wins_in_all_pairs_rank_ten_essays_by_quality() -> None:
    draws = Random(5)
    essays = [write_essay(grade / 9, draws) for grade in range(10)]
    wins = [0.0] * len(essays)
    for (first, one), (second, other) in combinations(enumerate(essays), 2):
        wins[first if await preferred(one, other) == one else second] += 1
    assert correlation(wins, [float(grade) for grade in range(10)]) > 0.85


@pytest.mark.parametrize(
    "asked",
    [
        lambda one, other, number: ask(one, other, UNBIASED, replicate=number),
        lambda one, other, number: ask(one, other, replace(UNBIASED, seed=number)),
        lambda one, other, number: ask(one, other, UNBIASED, system=f"You judge, {number}."),
        lambda one, other, number: ask(one, other, UNBIASED, task=f"Which essay is better, {number}?"),
    ],
    ids=["replicate", "seed", "system", "task"],
)
async def test_a_close_pair_is_decided_differently_when_anything_else_is_asked(
    asked: Callable[[str, str, int], ProviderRequest],
) -> None:
    draws = Random(6)
    one, other = write_essay(0.5, draws), write_essay(0.5, draws)
    assert {(await judge(asked(one, other, number))).winner for number in range(20)} == set(Winner)


async def test_confidence_is_whole_and_grows_with_distance() -> None:
    close: list[float] = []
    far: list[float] = []
    for one, other in mixed_pairs(seed=8):
        confidence = (await judge(ask(one, other))).confidence
        assert confidence in {1.0, 2.0, 3.0, 4.0, 5.0}
        gap = abs(read_essay(one).score - read_essay(other).score)
        (close if gap < 1 else far).append(confidence)
    assert fmean(far) > fmean(close) + 1


async def test_justification_tells_the_truth_about_both_essays() -> None:
    for one, other in mixed_pairs(seed=9, count=50):
        verdict = await judge(ask(one, other))
        for name, essay in (("Essay A", one), ("Essay B", other)):
            told = re.search(
                rf"{name}(?: develops its argument over|, with) (\d+) paragraphs? and (\d+) words?",
                verdict.justification,
            )
            assert told is not None
            assert told.groups() == (str(essay.count("\n\n") + 1), str(len(essay.split())))
        winning = one if verdict.winner is Winner.ESSAY_A else other
        for named in re.findall(r"'(\w+)'", verdict.justification):
            assert named in winning.lower().replace(".", "").split()


async def test_justification_says_only_where_the_loser_falls_short() -> None:
    said = set()
    for one, other in mixed_pairs(seed=9, count=50):
        verdict = await judge(ask(one, other))
        winner, loser = map(read_essay, (one, other) if verdict.winner is Winner.ESSAY_A else (other, one))
        falls_short = {
            "is written with less care": loser.slip_share > winner.slip_share,
            "uses fewer kinds of connectives": len(loser.connectives) < len(winner.connectives),
            "repeats its words more often": loser.distinct_share < winner.distinct_share,
            "says less": loser.words < winner.words,
        }
        claims = {claim for claim in falls_short if claim in verdict.justification}
        assert all(falls_short[claim] for claim in claims)
        assert len(claims) == min(2, sum(falls_short.values()))
        said |= claims
    assert said == falls_short.keys()


async def test_justification_of_a_text_read_in_part_gives_lower_bounds() -> None:
    verdict = await judge(ask("One two. " * 50_000, "One."))
    assert "at least 1 paragraph and 22223 words" in verdict.justification


async def test_failures_meet_their_share_and_leave_verdicts_alone() -> None:
    provider = MockProviderImpl(sleep=InstantSleep())
    knobs = replace(KNOBS, error_rate=0.3)
    expected = await judge(ask("One essay.", "Another essay."))
    failures = 0
    for _ in range(2000):
        try:
            reply = await provider.generate_comparison(ask("One essay.", "Another essay.", knobs))
        except ProviderUnavailableError:
            failures += 1
        else:
            assert reply.verdict == expected
    assert failures / 2000 == pytest.approx(0.3, abs=0.04)


async def test_the_seed_says_which_calls_fail() -> None:
    async def failed(seed: int) -> list[bool]:
        provider, knobs = MockProviderImpl(sleep=InstantSleep()), replace(KNOBS, error_rate=0.3, seed=seed)
        outcomes = [
            await asyncio.gather(provider.generate_comparison(ask("One.", "Two.", knobs)), return_exceptions=True)
            for _ in range(100)
        ]
        return [isinstance(outcome, ProviderUnavailableError) for (outcome,) in outcomes]

    assert await failed(7) == await failed(7) != await failed(8)


async def test_error_rate_of_one_fails_every_call() -> None:
    provider = MockProviderImpl(sleep=InstantSleep())
    for _ in range(100):
        with pytest.raises(
            ProviderUnavailableError, match=r"^The mock judge simulated a transient failure\.$"
        ) as failure:
            await provider.generate_comparison(ask("One.", "Two.", replace(KNOBS, error_rate=1.0)))
        assert failure.value.provider is ProviderName.MOCK


async def test_delay_is_latency_plus_jitter() -> None:
    sleep = InstantSleep()
    provider = MockProviderImpl(sleep=sleep)
    for _ in range(50):
        await provider.generate_comparison(ask("One.", "Two.", replace(KNOBS, latency_ms=200, latency_jitter_ms=100)))
    assert all(0.2 <= nap <= 0.3 for nap in sleep.naps)
    assert len(set(sleep.naps)) == 50


async def test_no_delay_means_no_sleep() -> None:
    sleep = InstantSleep()
    await MockProviderImpl(sleep=sleep).generate_comparison(ask("One.", "Two."))
    assert sleep.naps == []


@pytest.mark.parametrize("text", HOSTILE_TEXTS, ids=range(len(HOSTILE_TEXTS)))
async def test_hostile_texts_are_judged_like_any_other(text: str) -> None:
    for one, other in ((text, example("good")), (text, text)):
        verdict = await judge(ask(one, other))
        assert verdict.winner in set(Winner)
        assert len(verdict.justification) < 500
    assert (await judge(ask(text, example("good")))).winner is Winner.ESSAY_B
