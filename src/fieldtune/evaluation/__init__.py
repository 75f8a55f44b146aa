"""Before and after, side by side: measures with intervals, paired tests, a report that stands alone."""

from fieldtune.evaluation.ability import Change, General
from fieldtune.evaluation.against import Against, compare_runs
from fieldtune.evaluation.card import About, languages_of, write_card
from fieldtune.evaluation.compare import evaluate, measures
from fieldtune.evaluation.dense import model_ranking
from fieldtune.evaluation.examples import Example, examples_of, movers
from fieldtune.evaluation.general import general_ability
from fieldtune.evaluation.outputs import comparison_table, label, metrics, versions, write_metrics, write_per_query
from fieldtune.evaluation.probe_sets import Probe, probes_of
from fieldtune.evaluation.probing import Probed, probe
from fieldtune.evaluation.rankings import Ranking, asked, bm25_ranking, dense_ranking
from fieldtune.evaluation.report import write_report
from fieldtune.evaluation.results import Comparison, Evaluation, Scores, System
from fieldtune.evaluation.statistics import Clusters, cluster
from fieldtune.evaluation.test_set import digests
from fieldtune.evaluation.verdict import Verdict, judge

__all__ = [
    "About",
    "Against",
    "Change",
    "Clusters",
    "Comparison",
    "Evaluation",
    "Example",
    "General",
    "Probe",
    "Probed",
    "Ranking",
    "Scores",
    "System",
    "Verdict",
    "asked",
    "bm25_ranking",
    "cluster",
    "compare_runs",
    "comparison_table",
    "dense_ranking",
    "digests",
    "evaluate",
    "examples_of",
    "general_ability",
    "judge",
    "label",
    "languages_of",
    "measures",
    "metrics",
    "model_ranking",
    "movers",
    "probe",
    "probes_of",
    "versions",
    "write_card",
    "write_metrics",
    "write_per_query",
    "write_report",
]
