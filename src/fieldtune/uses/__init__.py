"""What else the vectors are good for: classes from few examples, the same thing said twice, records out of place.

Plain functions over texts and unit vectors; files are read and written by `fieldtune.uses.files` alone, so that a
service can call the rest.
"""

from fieldtune.uses.classifier import (
    Classifier,
    Prediction,
    load_classifier,
    predict,
    require_model,
    save_classifier,
)
from fieldtune.uses.classify import Classified, classify
from fieldtune.uses.crowding import Threshold, threshold_of
from fieldtune.uses.duplicates import Duplicates, Pair, duplicates, pairs
from fieldtune.uses.outliers import Outlier, Outliers, outliers

__all__ = [
    "Classified",
    "Classifier",
    "Duplicates",
    "Outlier",
    "Outliers",
    "Pair",
    "Prediction",
    "Threshold",
    "classify",
    "duplicates",
    "load_classifier",
    "outliers",
    "pairs",
    "predict",
    "require_model",
    "save_classifier",
    "threshold_of",
]
