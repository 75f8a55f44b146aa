"""The commented config that `fieldtune init` writes: every setting, its default and what it does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from fieldtune.config import Config, Section
from fieldtune.errors import InputError
from fieldtune.workspace import atomic_file

_HEAD = """\
# fieldtune: from documents to an embedding model that finds the right passage in them, with proof.
# Run it:  fieldtune plan {name}   then   fieldtune run {name}
# Settings that are commented out have the value shown; take the # away to change one.
"""


def write_starter(docs: Path, out: Path, *, force: bool) -> str:
    """Write a config for these documents and return a line that says what was found.

    Raises InputError when nothing in `docs` can be read, or `out` exists and `force` is not given.
    """
    from fieldtune.documents.find import extension, find_files

    if out.exists() and not force:
        raise InputError("exists already", "give another --out, or --force to overwrite it", path=out)
    found = find_files((str(docs),))
    if not found.files:
        raise InputError(
            "holds no document that can be read", "PDF, DOCX, HTML, Markdown, text, CSV or JSONL", path=docs
        )
    kinds: dict[str, int] = {}
    for path, _ in found.files:
        ending = extension(path.name)
        kinds[ending] = kinds.get(ending, 0) + 1
    with atomic_file(out) as stream:
        stream.write(starter_text(docs, out))
    listed = ", ".join(f"{count} {ending}" for ending, count in sorted(kinds.items()))
    return f"wrote {out} for {len(found.files):,} files ({listed}); next: fieldtune run {out}"


def starter_text(docs: Path, out: Path) -> str:
    """The whole file as text."""
    paths = str(docs.resolve())
    lines = [_HEAD.format(name=out.name)]
    given = {"preset": "balanced", "out": "run", "documents": {"paths": [paths]}}
    lines += _lines(Config, given, top=True)
    for name, field in Config.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            what = (section.__doc__ or "").strip().splitlines()[0]
            lines += ["", f"# {what}", f"[{name}]"]
            lines += _lines(section, given.get(name, {}))
    return "\n".join(lines) + "\n"


def _lines(model: type[BaseModel], given: Any, *, top: bool = False) -> list[str]:
    out = []
    for name, field in model.model_fields.items():
        if top and isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            continue
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Section):  # a section in a section: its keys with dots
            out += [f"# {line}" for line in (field.description or "").strip().splitlines()]
            prefixed = _lines(inner, given.get(name, {}))
            out += [_under(name, line) for line in prefixed]
            continue
        key = field.alias or name
        if field.description:
            out += [f"# {line}" for line in field.description.strip().splitlines()]
        if key in given:
            out.append(f"{key} = {toml_value(given[key])}")
        elif field.default is None:
            out.append(f"# {key} = (not set)")
        else:
            out.append(f"# {key} = {toml_value(field.default)}")
    return out


def _under(section: str, line: str) -> str:
    """A line of `_lines` with the section before its key; explanations stay as they are."""
    bare = line.removeprefix("# ")
    is_setting = re.match(r"\w+ = ", bare) is not None
    return ("# " if bare != line else "") + f"{section}.{bare}" if is_setting else line


def toml_value(value: Any) -> str:
    """A TOML literal of a plain value; JSON's strings, numbers and arrays are TOML's too."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml_value(inner)}" for key, inner in value.items()) + "}"
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
