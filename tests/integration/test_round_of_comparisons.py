"""A round as the platform plays it: ten essays, all pairs in both orders, three at a time, no retry of its own.

The judge fails now and then, and Kafka dies in the middle; every comparison is answered and told all the same, and the
ranking that follows from the verdicts is the order in which the essays were made.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations, product
from math import log
from pathlib import Path

import orjson

from tests.integration.events_on_kafka import COMPLETED, COST, STARTED, TOPICS, is_empty
from tests.integration.kafka_broker import Broker
from tests.integration.service_process import Answer, ServiceProcess, prefixed, service, wait_until

Question = tuple[tuple[int, int], int]

AT_A_TIME = 3
ROUNDS_OF_SCALING = 200
PRIOR = 0.1
TASK = "Should phones be locked away during lessons? Argue for one side; structure and reasons count."
FORM = "Respond with JSON indicating the winner, justification, and confidence level (1-5)."
SENTENCES = (1, 3, 5, 7, 9, 11, 13, 30, 80, 300)
REPLICATES = 4
SENTENCES_PER_PARAGRAPH = 6
OPENINGS = (
    "Furthermore,", "However,", "Therefore", "Moreover,", "Consequently,", "Nevertheless,", "Although critics object,",
    "Similarly,", "Instead,", "Hence", "Finally,", "Otherwise,", "Besides,", "Whereas others hesitate,",
)  # fmt: skip
ACTORS = (
    "experienced teachers", "worried parents", "ambitious pupils", "several headmasters", "careful researchers",
    "younger classmates", "school librarians", "independent inspectors", "neighbouring academies", "quiet learners",
    "enthusiastic tutors",
)  # fmt: skip
ACTIONS = (
    "observed noticeable improvements in", "reported considerable interruptions during", "gradually rediscovered",
    "consistently recommended", "carefully documented", "openly questioned", "successfully reorganised",
    "seriously underestimated", "repeatedly emphasised", "thoughtfully reconsidered", "publicly defended",
    "patiently practised", "unexpectedly abandoned",
)  # fmt: skip
OBJECTS = (
    "concentrated reading", "classroom conversation", "afternoon exercises", "mathematical reasoning",
    "laboratory experiments", "friendly debates", "handwritten summaries", "creative projects", "breakfast discussions",
    "geography lessons", "musical rehearsals", "foreign vocabulary", "historical investigations", "regular homework",
    "swimming tournaments", "theatre performances", "collaborative research",
)  # fmt: skip


def sentence(number: int) -> str:
    """Pools of lengths without a common factor: no two of the first thousands are the same."""
    opening, actor = OPENINGS[number % len(OPENINGS)], ACTORS[number % len(ACTORS)]
    return f"{opening} {actor} {ACTIONS[number % len(ACTIONS)]} {OBJECTS[number % len(OBJECTS)]}."


def essay(sentences: int) -> str:
    """The longer, the richer in connectives, words and paragraphs."""
    told = [sentence(number) for number in range(sentences)]
    starts = range(0, sentences, SENTENCES_PER_PARAGRAPH)
    return "\n\n".join(" ".join(told[start : start + SENTENCES_PER_PARAGRAPH]) for start in starts)


ESSAYS = [essay(sentences) for sentences in SENTENCES]


def strengths(wins: Counter[tuple[int, int]]) -> list[float]:
    """Bradley-Terry by the minorize-maximize rule (Hunter 2004); a small prior keeps who won nothing above zero."""
    number, scores = len(ESSAYS), [1.0] * len(ESSAYS)
    for _ in range(ROUNDS_OF_SCALING):
        scores = [_rescaled(one, scores, wins) for one in range(number)]
    return [log(score) for score in scores]


def _rescaled(one: int, scores: list[float], wins: Counter[tuple[int, int]]) -> float:
    others = [other for other in range(len(scores)) if other != one]
    won = sum(wins[one, other] for other in others)
    met = sum((wins[one, other] + wins[other, one]) / (scores[one] + scores[other]) for other in others)
    return (PRIOR + won) / (PRIOR + met)


def compare(judge: ServiceProcess, question: Question) -> Answer:
    """As the platform's client does: the form is asked for at the end of the second essay."""
    (first, second), replicate = question
    return judge.compare(
        user_prompt=TASK,
        essay_a=ESSAYS[first],
        essay_b=f"{ESSAYS[second]}\n\n{FORM}",
        metadata={"first": first, "second": second},
        user_id="cj-assessment",
        replicate=replicate,
    )


def ask_through_an_outage(judge: ServiceProcess, broker: Broker, questions: Sequence[Question]) -> list[Answer]:
    """The broker dies after a third of the round and begins to return after the second one."""
    third = len(questions) // 3
    with ThreadPoolExecutor(AT_A_TIME) as callers, ThreadPoolExecutor(1) as operator:
        answers = list(callers.map(lambda question: compare(judge, question), questions[:third]))
        broker.kill()
        answers += callers.map(lambda question: compare(judge, question), questions[third : 2 * third])
        assert not is_empty(judge), "the outage was to be felt"
        operator.submit(broker.start)
        answers += callers.map(lambda question: compare(judge, question), questions[2 * third :])
    return answers


def told(broker: Broker, topic: str, round_: Collection[str]) -> list[str]:
    """Whose events an independent consumer finds there, of those in this round."""
    envelopes = [orjson.loads(message.value() or b"") for message in broker.read(topic, at_least=len(round_))]
    return sorted(one["correlation_id"] for one in envelopes if one["correlation_id"] in round_)


def test_a_round_with_a_broker_outage_is_answered_and_told_completely_and_recovers_the_order_of_the_essays(
    perishable: Broker, tmp_path: Path
) -> None:
    questions = list(product(permutations(range(len(ESSAYS)), 2), range(REPLICATES)))
    pairs = [pair for pair, _ in questions]
    perishable.create(*TOPICS)
    settings = prefixed(
        USE_MOCK_LLM="true",
        MOCK_ERROR_RATE="0.05",
        MOCK_LATENCY_MS="5",
        KAFKA_BOOTSTRAP_SERVERS=perishable.servers,
    )
    with service(tmp_path, settings) as judge:
        answers = ask_through_an_outage(judge, perishable, questions)
        usage = judge.ask("/api/v1/usage/summary").json()["total"]
        wait_until(lambda: is_empty(judge), within_s=60.0)
    assert [answer.status for answer in answers] == [200] * len(pairs)
    verdicts = [answer.json() for answer in answers]
    assert [(one["metadata"]["first"], one["metadata"]["second"]) for one in verdicts] == pairs
    wins: Counter[tuple[int, int]] = Counter()
    for (first, second), verdict in zip(pairs, verdicts, strict=True):
        wins[(first, second) if verdict["winner"] == "Essay A" else (second, first)] += 1
    scores = strengths(wins)
    assert sorted(range(len(ESSAYS)), key=lambda one: scores[one]) == list(range(len(ESSAYS)))
    assert usage["successes"] == len(pairs)
    assert usage["failures"] > 0, "the judge was to fail now and then"
    asked = {verdict["correlation_id"] for verdict in verdicts}
    for topic in (STARTED, COMPLETED, COST):
        assert told(perishable, topic, asked) == sorted(asked)
