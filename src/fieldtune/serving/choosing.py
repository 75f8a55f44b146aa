"""Which model a request means: that of the index, or one of the adapters beside it."""

from __future__ import annotations

from fieldtune.serving.adapters import Adapter
from fieldtune.serving.problems import ApiError
from fieldtune.serving.service import Service


def adapter_of(service: Service, model: str) -> Adapter | None:
    """The adapter that a request means by its `model`; None for the index's model. Raises ApiError 404."""
    if model == service.name:
        return None
    for adapter in service.adapters.values():
        if adapter.model == model:
            return adapter
    there = (service.name, *(one.model for one in service.adapters.values()))
    raise ApiError(
        404, f"the model {model[:200]!r} does not exist; there is {_listed(there)}", param="model",
        code="model_not_found",
    )  # fmt: skip


def search_adapter(service: Service, name: str, mode: str) -> Adapter | None:
    """The adapter that a search names; None where the index was made with it.

    Raises ApiError: 404 for a name that is not there, 400 where the index or the mode is not for it.
    """
    adapter = service.adapters.get(name)
    if adapter is None:
        there = f"there is {_listed(tuple(service.adapters))}" if service.adapters else "this server has none"
        raise ApiError(
            404, f"the adapter {name[:200]!r} does not exist; {there}", param="adapter", code="adapter_not_found"
        )
    modes = modes_of(service, adapter)
    if not modes:
        raise ApiError(
            400, f"adapter: {name} gives passages other vectors than {service.name}, whose are in the index, and "
            "vectors of two models never mix; search without it, or serve an index made with it. An adapter trained "
            "with method=query changes questions alone and can search here", param="adapter",
            code="adapter_not_of_index",
        )  # fmt: skip
    if mode not in modes and mode in ("auto", *service.volume.index.modes):
        raise ApiError(
            400, f"mode: with the adapter {name} there is {_listed(modes)}; {mode} needs word weights and token "
            "vectors, which come from the index's model alone", param="mode", code="invalid_request",
        )  # fmt: skip
    return None if adapter.is_in(service.volume.engine) else adapter


def modes_of(service: Service, adapter: Adapter | None) -> tuple[str, ...]:
    """Of searches with the index's model or an adapter; none where vectors of two models would mix."""
    index, engine = service.volume.index, service.volume.engine
    if adapter is None or adapter.is_in(engine):
        return ("auto", *index.modes)
    if not adapter.leaves_passages(engine):
        return ()
    plain = tuple(mode for mode in index.modes if not index.is_three(mode))
    return plain if index.is_three("auto") else ("auto", *plain)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(map(repr, names))
