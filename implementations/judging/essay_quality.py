"""The latent quality of an essay, estimated from its text alone, so that the mock judge prefers better writing.

Surface signs of English stand in for quality: length, structure, vocabulary, connectives and care. A script without
spaces shows few of them: two Chinese essays are a close pair. All passes are linear over a bounded beginning of the
text, so that no essay, however large or odd, is slow to read or fails.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from math import exp, sqrt

READ_CHARACTERS = 100_000
TYPICAL_WORDS = 400
CREDIBLE_WORDS = 100
RICH_PARAGRAPHS = 6
LONG_WORD_LETTERS = 7
SENTENCE_ENDS = (".", "!", "?", "…")
WRAPPING = "\"'`()[]{}*_“”\u2018\u2019«»"
PUNCTUATION = WRAPPING + ".,;:!?…-\u2013—/"
CONNECTIVE_WORDS = """
    afterwards although because besides consequently despite finally firstly furthermore hence however instead moreover
    nevertheless nonetheless otherwise secondly similarly since therefore though thus unless whereas whether while yet
"""
CONNECTIVES = frozenset(CONNECTIVE_WORDS.split())
MISSPELT_WORDS = """
    alot arent becuase beleive cant couldnt definately didnt doesnt dont freind freinds happend hasnt havent im isnt ive
    realy recieve shoud shouldnt somthing thats thier untill wasnt wich wont wouldnt
"""
MISSPELT = frozenset(MISSPELT_WORDS.split())
REPEATABLE = frozenset({"had", "that"})

# Points for each sign at its best: 10 in all.
LENGTH_POINTS, STRUCTURE_POINTS, VOCABULARY_POINTS, CONNECTIVE_POINTS, CARE_POINTS = 2.5, 1.0, 3.0, 2.0, 1.5

# The value at which a sign scores nothing, and the one at which it scores all its points.
DISTINCT_PER_ROOT_WORD = (4.0, 15.0)
LONG_WORD_SHARE = (0.05, 0.25)
CONNECTIVE_KINDS = (0.0, 9.0)
SLIP_SHARE = (0.06, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class EssayTraits:
    """What was read. Counts and shares (0 to 1) cover the part read; is_whole: that is the whole text.

    connectives: the kinds used, most frequent first. slip_share: slips, such as a lone "i" or a word twice, per word.
    score: latent quality in points, 0 to 10.
    """

    words: int
    paragraphs: int
    distinct_share: float
    long_word_share: float
    capital_share: float
    slip_share: float
    connectives: tuple[str, ...]
    is_whole: bool

    @property
    def score(self) -> float:
        """Sum of the signs; each saturates so that none decides alone, and a very short text earns little for style."""
        vocabulary = _graded(self.distinct_share * sqrt(self.words), *DISTINCT_PER_ROOT_WORD)
        vocabulary += _graded(self.long_word_share, *LONG_WORD_SHARE)
        care = self.capital_share + _graded(self.slip_share, *SLIP_SHARE)
        manner = VOCABULARY_POINTS * vocabulary / 2 + CARE_POINTS * care / 2
        return (
            LENGTH_POINTS * (1 - exp(-self.words / TYPICAL_WORDS))
            + STRUCTURE_POINTS * min(1.0, self.paragraphs / RICH_PARAGRAPHS)
            + CONNECTIVE_POINTS * _graded(len(self.connectives), *CONNECTIVE_KINDS)
            + manner * min(1.0, self.words / CREDIBLE_WORDS)
        )


def read_essay(text: str) -> EssayTraits:
    """Read the beginning of an essay; accepts any text."""
    part = text[:READ_CHARACTERS]
    tokens = part.split()
    words = [word for token in tokens if (word := token.strip(PUNCTUATION))]
    lowered = [word.lower() for word in words]
    openings = list(_openings(tokens))
    connectives = Counter(word for word in lowered if word in CONNECTIVES)
    return EssayTraits(
        words=len(tokens),
        paragraphs=sum(filled for filled, _ in groupby(part.splitlines(), key=lambda line: bool(line.strip()))),
        distinct_share=_share(len(set(lowered)), len(tokens)),
        long_word_share=_share(sum(len(word) >= LONG_WORD_LETTERS for word in words), len(tokens)),
        capital_share=_share(sum(not opening.islower() for opening in openings), len(openings)),
        slip_share=_share(_slips(words, lowered), len(tokens)),
        connectives=tuple(kind for kind, _ in connectives.most_common()),
        is_whole=len(part) == len(text),
    )


def _openings(tokens: Sequence[str]) -> Iterator[str]:
    """Yield the first character of every sentence."""
    is_start = True
    for token in tokens:
        if is_start:
            yield token.lstrip(WRAPPING)[:1]
        is_start = token.rstrip(WRAPPING).endswith(SENTENCE_ENDS)


def _slips(words: Sequence[str], lowered: Sequence[str]) -> int:
    """Count lowercase "i" standing alone, known misspellings and words repeated in a row."""
    twice = sum(left == right and left not in REPEATABLE for left, right in pairwise(lowered))
    return words.count("i") + sum(word in MISSPELT for word in lowered) + twice


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _graded(value: float, worthless: float, perfect: float) -> float:
    """The value's position between the two bounds, clamped to 0 to 1."""
    return min(1.0, max(0.0, (value - worthless) / (perfect - worthless)))
