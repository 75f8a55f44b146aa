"""The plan of the house, held to: which module may import which, and what a start of the command line may cost."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import fieldtune

PACKAGE = Path(fieldtune.__file__).parent
# What may import what stands to its left. `uses` is no step of a run: classes, duplicates and outliers by vectors,
# which the command line and the service offer.
STAGES = ("documents", "corpus", "queries", "dataset", "training", "evaluation", "index", "uses", "serving")
# What may see every stage: it puts them in order, or is the demo that calls them.
ABOVE = (
    "pipeline",
    "plan",
    "workload",
    "timing",
    "stages",
    "standalone",
    "evaluating",
    "trained_card",
    "labelling",
    "starter",
    "summary",
    "launched",
    "cli",
    "cli_dataset",
    "cli_evaluate",
    "cli_export",
    "exporting",
    "cli_adapter",
    "cli_serve",
    "cli_options",
    "cli_uses",
    "adapters",
    "demo",
    "tuning",
    "__main__",
)
# Shared by the stages; itself built on the shared root modules alone.
ENCODING = "encoding"
# Shared by training, which chooses by one half of its items, and evaluation, which judges by the other; built on the
# shared root modules and encoding.
PROBES = "probes"
HEAVY = [
    "torch",
    "transformers",
    "sentence_transformers",
    "lancedb",
    "matplotlib",
    "scipy",
    "pyarrow",
    "pandas",
    "openai",
    "liteparse",
    "pypdfium2",
    "bm25s",
    "fastapi",
    "uvicorn",
    "sklearn",
]


def imports(source: str, module: str, *, is_package: bool) -> Iterator[str]:
    """Full names of all that a module imports, lazily or not, also for typing; relative imports made absolute."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def offences(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """What a module imports against the plan, one sentence each."""
    parts = module.split(".")
    part = parts[1] if len(parts) > 1 else "__init__"
    found = []
    for name in imports(source, module, is_package=is_package):
        root, _, rest = name.partition(".")
        target = rest.split(".")[0]
        if root == "rich" and module != "fieldtune.console":
            found.append(f"{module} imports rich, which only console.py knows")
        if root != "fieldtune" or target == part or part in ABOVE:
            continue
        if (module, name) == ("fieldtune", "fieldtune.index.Index"):  # the package's own public name, imported lazily
            continue
        if target in ABOVE:
            found.append(f"{module} imports {name}, which stands above it")
        elif target in STAGES:
            if part not in STAGES:
                found.append(f"{module} is shared and imports the stage {name}")
            elif STAGES.index(target) > STAGES.index(part):
                found.append(f"{module} imports {name}, a stage to its right")
        elif part not in {ENCODING: (*STAGES, PROBES, "doctor", "__init__"), PROBES: STAGES}.get(target, (part,)):
            found.append(f"{module} is shared and imports {name}")
    return found


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py"))


def dotted(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_no_module_imports_what_the_plan_puts_to_its_right() -> None:
    paths = modules()
    assert len(paths) > 10
    found = [
        line
        for path in paths
        for line in offences(path.read_text("utf-8"), dotted(path), is_package=path.name == "__init__.py")
    ]
    assert found == []


@pytest.mark.parametrize(
    ("module", "source", "says"),
    [
        ("fieldtune.corpus.cut", "from fieldtune.dataset.split import split", "to its right"),
        ("fieldtune.corpus.cut", "from fieldtune import dataset", "to its right"),
        ("fieldtune.corpus.cut", "def late():\n    import fieldtune.index.build", "to its right"),
        ("fieldtune.corpus.cut", "from ..training import loop", "to its right"),
        ("fieldtune.corpus.cut", "from ..pipeline import run", "above it"),
        ("fieldtune.training.loop", "if TYPE_CHECKING:\n    from fieldtune.evaluation import report", "to its right"),
        ("fieldtune.models", "from fieldtune.index import Index", "is shared"),
        ("fieldtune.models", "from fieldtune.encoding import Encoder", "is shared"),
        ("fieldtune.encoding.tokens", "from fieldtune.corpus import cut", "is shared"),
        ("fieldtune.encoding.tokens", "from fieldtune.probes import probe", "is shared"),
        ("fieldtune.probes.sets", "from fieldtune.evaluation import evaluate", "is shared"),
        ("fieldtune.index.build", "from rich.table import Table", "only console.py"),
        ("fieldtune.cli", "import rich", "only console.py"),
    ],
)
def test_the_check_sees_offences(module: str, source: str, says: str) -> None:
    (line,) = offences(source, module)
    assert says in line


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fieldtune.evaluation.report", "from fieldtune.documents import read\nfrom fieldtune.encoding import Encoder"),
        (
            "fieldtune.evaluation.report",
            "from fieldtune.evaluation.table import table\nfrom fieldtune.types import Hit",
        ),
        ("fieldtune.pipeline", "from fieldtune.serving import serve"),
        ("fieldtune.console", "import rich"),
        ("fieldtune.corpus.cut", "import indexed_gzip\nfrom training import nothing_of_ours"),
    ],
)
def test_the_check_lets_the_plan_pass(module: str, source: str) -> None:
    assert offences(source, module) == []


def test_the_check_knows_every_folder() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/*.py")}
    assert folders <= {*STAGES, ENCODING, "builtin", "demo", "llm", "stages", PROBES, "tuning"}


@pytest.mark.skipif(not (PACKAGE / "cli.py").exists(), reason="the command line is not there yet")
def test_the_command_line_starts_without_heavy_packages() -> None:
    code = f"import sys, fieldtune.cli; print(*sorted(set(sys.modules) & {set(HEAVY)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_no_two_test_files_have_one_name() -> None:
    # pytest imports them by name alone, since the folders of tests are no packages: the second would stop the run.
    names = Counter(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    assert len(names) > 50
    assert [name for name, count in names.items() if count > 1] == []
