"""Everyday texts outside any field, and what a model scores on them: what tuning on one field must not cost."""

from fieldtune.probes.halves import for_verdict, halves, mark_chosen
from fieldtune.probes.measuring import Probed, probe
from fieldtune.probes.sets import Probe, all_probes, probes_of
from fieldtune.probes.skills import known, score

__all__ = [
    "Probe",
    "Probed",
    "all_probes",
    "for_verdict",
    "halves",
    "known",
    "mark_chosen",
    "probe",
    "probes_of",
    "score",
]
