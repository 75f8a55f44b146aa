"""What Prometheus is told: numbers only, nothing that was asked."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.002, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The counts of one service, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter("fieldtune_requests", "Requests answered", ("route", "status"), registry=self._registry)
        self.seconds = Histogram(
            "fieldtune_request_seconds", "Time to the end of the answer", ("route",), registry=self._registry,
            buckets=_SECONDS,
        )  # fmt: skip
        self.under_way = Gauge("fieldtune_requests_under_way", "Requests at this moment", registry=self._registry)
        self.refused = Counter("fieldtune_refused", "Requests refused early", ("why",), registry=self._registry)
        self.texts = Counter(
            "fieldtune_texts_encoded", "Texts through the model, or the adapter that is named", ("side", "adapter"),
            registry=self._registry,
        )  # fmt: skip
        self._adapters = Gauge(
            "fieldtune_adapter_waiting", "Texts that wait for an adapter", ("adapter",), registry=self._registry
        )
        self.answers = Counter("fieldtune_answers", "Answers by outcome", ("outcome",), registry=self._registry)
        self.labels = Counter("fieldtune_labels", "Judgements that people made", ("said",), registry=self._registry)
        self.refreshes = Counter(
            "fieldtune_index_refreshes", "Times that a new index was taken", registry=self._registry
        )

    def watch(self, name: str, about: str, value: Callable[[], float]) -> None:
        """A gauge that is read when it is asked for."""
        Gauge(name, about, registry=self._registry).set_function(value)

    def watch_adapter(self, name: str, waiting: Callable[[], float]) -> None:
        self._adapters.labels(name).set_function(waiting)

    def text(self) -> bytes:
        return generate_latest(self._registry)
