"""A free judge: it reads surface signs of quality and makes the kinds of errors that language models make.

Verdicts depend only on the question and the knobs, never on the clock, the process or earlier calls; only simulated
failures and delays depend on the number of earlier calls.
"""

import hashlib
from functools import cache
from random import Random

from api_models import ProviderName, Purchase, Usage, Winner
from exceptions import NoUsableProviderError, ProviderUnavailableError
from implementations.judging.catalogue import MOCK_MODEL
from implementations.judging.essay_quality import EssayTraits, read_essay
from implementations.judging.prompt import measured
from protocols import (
    BYTES_PER_TOKEN,
    MockKnobs,
    PromptProtocol,
    ProviderReply,
    ProviderRequest,
    SleepProtocol,
    Verdict,
)

# In points of quality. The widest noise stays below the distance that counts as overwhelming, so that an
# overwhelmingly better essay always wins.
NOISE_POINTS = 0.6
WIDEST_NOISE_POINTS = 1.8
OVERWHELMING_POINTS = 3.2
# Overwhelming pairs (up to a third of mixed-quality input) are never judged by position; the factor mostly compensates.
CLOSE_PAIR_FACTOR = 1.2

POINTS_PER_CONFIDENCE_STEP = 0.75
LOWEST_CONFIDENCE, HIGHEST_CONFIDENCE = 1.0, 5.0

JSON_TOKENS = 20  # of a verdict, around its justification
MOST_NAMED = 2


class MockProviderImpl:
    """Judges pairs of essays, with one random stream of failures and one of delays per seed."""

    def __init__(self, *, sleep: SleepProtocol) -> None:
        """sleep: simulates delays, in seconds."""
        self._sleep = sleep
        self._failures = cache(Random)
        self._delays = cache(lambda seed: Random(f"delays of {seed}"))

    async def probe(self) -> str:
        """Always succeeds."""
        return "The mock judge is ready."

    async def generate_comparison(self, request: ProviderRequest) -> ProviderReply:
        """Judge one pair, delayed or failing as the knobs say."""
        knobs = request.mock
        if knobs is None:
            message = "The mock judge was asked without its settings."
            raise NoUsableProviderError(message, provider=ProviderName.MOCK)
        fails = self._failures(knobs.seed).random() < knobs.error_rate
        await self._delay(knobs)
        if fails:
            message = "The mock judge simulated a transient failure."
            raise ProviderUnavailableError(message, provider=ProviderName.MOCK)
        verdict = _judge(request.prompt, request.replicate, knobs)
        answered = len(verdict.justification) // BYTES_PER_TOKEN + JSON_TOKENS
        usage = Usage(prompt=request.prompt.size_bytes // BYTES_PER_TOKEN, completion=answered)
        return ProviderReply(
            verdict=verdict,
            provider=ProviderName.MOCK,
            purchase=Purchase(model=MOCK_MODEL, usage=usage, cost_usd=None),
            prompt_sha256=request.prompt.sha256,
        )

    async def _delay(self, knobs: MockKnobs) -> None:
        delay_ms = knobs.latency_ms + self._delays(knobs.seed).uniform(0, knobs.latency_jitter_ms)
        if delay_ms > 0:
            await self._sleep(delay_ms / 1000)


def _judge(prompt: PromptProtocol, replicate: int, knobs: MockKnobs) -> Verdict:
    """Weigh the two essays; the swapped pair gets the mirrored verdict, unless judged by position."""
    essay_a, essay_b = prompt.essays
    former, latter = sorted((essay_a, essay_b))
    draws = _draws(knobs.seed, prompt.system, prompt.lead, replicate, former, latter)
    a, b = read_essay(essay_a), read_essay(essay_b)
    is_close = abs(a.score - b.score) < OVERWHELMING_POINTS
    by_position = draws.random() < knobs.position_bias * CLOSE_PAIR_FACTOR and is_close
    noise = max(-WIDEST_NOISE_POINTS, min(WIDEST_NOISE_POINTS, draws.gauss(0, NOISE_POINTS)))
    lead = a.score - b.score + (noise if essay_a == former else -noise)
    confidence = min(HIGHEST_CONFIDENCE, LOWEST_CONFIDENCE + abs(lead) // POINTS_PER_CONFIDENCE_STEP)
    sides = [(Winner.ESSAY_A, a), (Winner.ESSAY_B, b)]
    (winner, better), (loser, worse) = sides if by_position or lead >= 0 else reversed(sides)
    justification = f"{_praise(winner, better)} {_criticism(loser, worse, better)}"
    return Verdict(winner=winner, justification=justification, confidence=confidence)


def _draws(*question: str | int) -> Random:
    """The random stream of one question."""
    return Random(hashlib.sha256(b"".join(measured(str(part)) for part in question)).digest())


def _praise(name: Winner, traits: EssayTraits) -> str:
    named = " and ".join(f"'{kind}'" for kind in traits.connectives[:MOST_NAMED])
    linked = f" and links its reasons with connectives such as {named}" if named else ""
    return f"{name} develops its argument over {_size(traits)}{linked}."


def _criticism(name: Winner, traits: EssayTraits, better: EssayTraits) -> str:
    """Say where the loser falls short; every clause is true of its traits."""
    clauses = {
        "is written with less care": traits.slip_share > better.slip_share,
        "uses fewer kinds of connectives": len(traits.connectives) < len(better.connectives),
        "repeats its words more often": traits.distinct_share < better.distinct_share,
        "says less": traits.words < better.words,
    }
    weaknesses = [clause for clause, is_true in clauses.items() if is_true][:MOST_NAMED]
    return f"{name}, with {_size(traits)}, {' and '.join(weaknesses) or 'comes close but convinces less'}."


def _size(traits: EssayTraits) -> str:
    """The counts in words; lower bounds if only the beginning was read."""
    counts = {"paragraph": traits.paragraphs, "word": traits.words}
    named = " and ".join(f"{count} {noun}{'' if count == 1 else 's'}" for noun, count in counts.items())
    return named if traits.is_whole else f"at least {named}"
