"""How far a median of a few figures can be trusted."""

import random
from collections.abc import Sequence
from statistics import median

CONFIDENCE = 0.95
RESAMPLES, SEED = 4000, 17


def interval(figures: Sequence[float]) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of their median (Efron 1979), the same for the same figures.

    The figures are resampled as they are: each should be one independent measurement. Raises IndexError for none.
    """
    draw = random.Random(SEED)
    medians = sorted(median(draw.choices(figures, k=len(figures))) for _ in range(RESAMPLES))
    outside = round(RESAMPLES * (1 - CONFIDENCE) / 2)
    return medians[outside], medians[-1 - outside]
