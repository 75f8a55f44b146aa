"""Before and after, side by side: measures with intervals, paired tests, a report that stands alone."""

from fieldtune.evaluation.compare import evaluate, measures
from fieldtune.evaluation.dense import model_ranking
from fieldtune.evaluation.examples import Example, examples_of, movers
from fieldtune.evaluation.lineup import Lineup, line_up
from fieldtune.evaluation.outputs import (
    comparison_table,
    metrics,
    system_table,
    versions,
    write_metrics,
    write_per_query,
)
from fieldtune.evaluation.rankings import Ranking, asked, bm25_ranking, dense_ranking
from fieldtune.evaluation.report import write_report
from fieldtune.evaluation.results import About, Comparison, Evaluation, Scores, System
from fieldtune.evaluation.statistics import Clusters, cluster
from fieldtune.evaluation.verdict import Verdict, judge
from fieldtune.measures import label

__all__ = [
    "About",
    "Clusters",
    "Comparison",
    "Evaluation",
    "Example",
    "Lineup",
    "Ranking",
    "Scores",
    "System",
    "Verdict",
    "asked",
    "bm25_ranking",
    "cluster",
    "comparison_table",
    "dense_ranking",
    "evaluate",
    "examples_of",
    "judge",
    "label",
    "line_up",
    "measures",
    "metrics",
    "model_ranking",
    "movers",
    "system_table",
    "versions",
    "write_metrics",
    "write_per_query",
    "write_report",
]
