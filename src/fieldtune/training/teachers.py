"""Vectors of a second model for the training texts: a guide's, or those of a larger embedder that is followed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldtune.config import Model, Training
from fieldtune.encoding import Encoder, cached_vectors
from fieldtune.training.fixed import FixedVectors
from fieldtune.training.pairs import Pairs

_FITTED = 20_000  # texts that the main components are found on
_BLOCK = 8_192


def guide_vectors(name: str, base: Model, folder: Path) -> Callable[[Pairs], FixedVectors]:
    """Vectors of the guide `name`, or where it is empty of the base model as it is before training.

    They are kept in `folder`: each text is encoded once.
    """
    return lambda pairs: _encoded(name, base, pairs, folder, "encoding with the guide")


def teacher_vectors(settings: Training, base: Model, folder: Path, seed: int) -> Callable[[Pairs], FixedVectors]:
    """Vectors of `settings.vector_teacher`, brought to the student's size where the projection is not learned."""

    def fixed(pairs: Pairs) -> FixedVectors:
        teacher = _encoded(settings.vector_teacher, base, pairs, folder, "encoding with the teacher")
        if settings.projection == "learned":
            return teacher
        student = _encoded("", base, pairs, folder, "encoding with the base model")
        matrix = aligned_components(_some(teacher, seed), _some(student, seed))
        return FixedVectors(_through(teacher.queries, matrix), _through(teacher.passages, matrix))

    return fixed


def aligned_components(teacher: NDArray[np.float32], student: NDArray[np.float32]) -> NDArray[np.float32]:
    """The matrix (teacher dim, student dim) that cuts a teacher's vectors to their main components and turns these
    towards the student's vectors of the same texts.

    The cut keeps most of the teacher's inner products (uncentred PCA); the turn (orthogonal Procrustes, Schönemann
    1966) keeps all of what is left and spares the student learning other axes than its own. A smaller teacher is laid
    into the student's space.
    """
    components = np.linalg.svd(teacher, full_matrices=False)[2][: student.shape[1]].T
    left, _, right = np.linalg.svd((teacher @ components).T @ student, full_matrices=False)
    return np.asarray(components @ left @ right, np.float32)


def _encoded(name: str, base: Model, pairs: Pairs, folder: Path, label: str) -> FixedVectors:
    # Loaded anew: the encoder in training is no longer the base model after its first step.
    encoder = Encoder.load(name) if name else Encoder.load(base.base, settings=base)
    return FixedVectors(
        cached_vectors(encoder, pairs.queries, "query", folder, label=label),
        cached_vectors(encoder, pairs.passages, "passage", folder, label=label),
    )


def _some(vectors: FixedVectors, seed: int) -> NDArray[np.float32]:
    """Rows of either side; the same rows for every model."""
    rng = np.random.default_rng((seed, 11))
    parts = []
    for side in (vectors.queries, vectors.passages):
        rows = np.sort(rng.permutation(len(side))[: _FITTED // 2])
        parts.append(np.asarray(side[rows], np.float32))
    return np.concatenate(parts)


def _through(vectors: NDArray[np.float32], matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    blocks = [
        np.asarray(vectors[begin : begin + _BLOCK], np.float32) @ matrix for begin in range(0, len(vectors), _BLOCK)
    ]
    return np.concatenate(blocks)
