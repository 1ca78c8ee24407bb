"""All criteria of a key, weighed into one score."""

from __future__ import annotations

from typing import assert_never

from runner.domain import (
    AnswerKey,
    ChoiceCriterion,
    Criterion,
    CriterionScore,
    ExactCriterion,
    JsonSubsetCriterion,
    NumericCriterion,
    RegexCriterion,
    Score,
)
from runner.scoring.choice import judge_choice
from runner.scoring.exact import judge_exact
from runner.scoring.json_subset import judge_json_subset
from runner.scoring.numeric import judge_numeric
from runner.scoring.regex import judge_regex
from runner.scoring.text import readable, says_nothing
from runner.scoring.verdict import Verdict, miss


class DefaultScorer:
    """The five scorers of the suite format (`runner.ports.Scorer`)."""

    def score(self, answer: str, key: AnswerKey) -> Score:
        """The judgement of `answer`; one in which nothing can be read scores 0."""
        verdicts = _verdicts(readable(answer), key.criteria)
        scores = tuple(map(_weighed, key.criteria, verdicts))
        return Score(
            raw=sum(score.weight * score.points for score in scores),
            maximum=sum(criterion.weight for criterion in key.criteria),
            criteria=scores,
        )


def _verdicts(text: str, criteria: tuple[Criterion, ...]) -> list[Verdict]:
    if says_nothing(text):
        return [miss("the answer is empty") for _ in criteria]
    verdicts = [_judge(text, criterion) for criterion in criteria]
    return _absences_earned(verdicts, criteria)


def _judge(text: str, criterion: Criterion) -> Verdict:
    match criterion:
        case ExactCriterion():
            return judge_exact(text, criterion)
        case NumericCriterion():
            return judge_numeric(text, criterion)
        case ChoiceCriterion():
            return judge_choice(text, criterion)
        case RegexCriterion():
            return judge_regex(text, criterion)
        case JsonSubsetCriterion():
            return judge_json_subset(text, criterion)
        case _:
            assert_never(criterion)


def _absences_earned(verdicts: list[Verdict], criteria: tuple[Criterion, ...]) -> list[Verdict]:
    """Not saying something wrong is worth nothing to an agent that says nothing right either."""
    absences = [_is_absence(criterion) for criterion in criteria]
    if any(v.points for v, absence in zip(verdicts, absences, strict=True) if not absence):
        return verdicts
    return [
        miss("nothing else is right") if absence else verdict
        for verdict, absence in zip(verdicts, absences, strict=True)
    ]


def _is_absence(criterion: Criterion) -> bool:
    return isinstance(criterion, RegexCriterion) and criterion.match == "absent"


def _weighed(criterion: Criterion, verdict: Verdict) -> CriterionScore:
    return CriterionScore(
        name=criterion.name,
        scorer=criterion.scorer,
        weight=criterion.weight,
        points=verdict.points,
        detail=verdict.detail,
    )
