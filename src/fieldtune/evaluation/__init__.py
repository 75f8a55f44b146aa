"""Before and after, side by side: measures with intervals, paired tests, a report that stands alone."""

from fieldtune.evaluation.ability import General
from fieldtune.evaluation.against import Against, compare_runs
from fieldtune.evaluation.audit import added_leaks, audit
from fieldtune.evaluation.card import ModelFacts, languages_of, write_card
from fieldtune.evaluation.compare import evaluate, measures
from fieldtune.evaluation.dense import model_ranking
from fieldtune.evaluation.examples import movers
from fieldtune.evaluation.general import general_ability
from fieldtune.evaluation.lineup import Lineup, line_up, with_trained_sizes
from fieldtune.evaluation.llm_judge import agreement, human_pairs, llm_grades
from fieldtune.evaluation.origin import Origin, changed, overrides
from fieldtune.evaluation.outcome import parse_outcomes
from fieldtune.evaluation.outputs import comparison_table, metrics, write_metrics, write_per_query, write_runs
from fieldtune.evaluation.proof import Proof, prove
from fieldtune.evaluation.rankings import Ranking, asked, bm25_ranking, dense_ranking
from fieldtune.evaluation.report import write_report
from fieldtune.evaluation.results import Evaluation, System
from fieldtune.evaluation.test_set import digests
from fieldtune.evaluation.unjudged import add_judgements, read_judgements, unjudged, write_unjudged
from fieldtune.evaluation.verdict import judge
from fieldtune.measures import label

__all__ = [
    "Against",
    "Evaluation",
    "General",
    "Lineup",
    "ModelFacts",
    "Origin",
    "Proof",
    "Ranking",
    "System",
    "add_judgements",
    "added_leaks",
    "agreement",
    "asked",
    "audit",
    "bm25_ranking",
    "changed",
    "compare_runs",
    "comparison_table",
    "dense_ranking",
    "digests",
    "evaluate",
    "general_ability",
    "human_pairs",
    "judge",
    "label",
    "languages_of",
    "line_up",
    "llm_grades",
    "measures",
    "metrics",
    "model_ranking",
    "movers",
    "overrides",
    "parse_outcomes",
    "prove",
    "read_judgements",
    "unjudged",
    "with_trained_sizes",
    "write_card",
    "write_metrics",
    "write_per_query",
    "write_report",
    "write_runs",
    "write_unjudged",
]
