"""Two gloo processes on the processor against one: the same batch must give the same gradient and the same model."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import two_processes as two

from fieldtune.config import make_config
from fieldtune.errors import ConfigError, InputError, MissingExtraError
from fieldtune.training.devices import requirements
from fieldtune.training.devices.deepspeed_file import deepspeed_settings
from fieldtune.training.devices.passes import Passes
from fieldtune.training.devices.requirements import require_devices

SOURCE = Path(__file__).parent.parent.parent / "src"
has_deepspeed = pytest.mark.skipif(
    __import__("importlib").util.find_spec("deepspeed") is None, reason="deepspeed is not installed"
)


def launched(*words: str, processes: int = 2, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ, "PYTHONPATH": f"{SOURCE}{os.pathsep}{os.environ.get('PYTHONPATH', '')}", "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip
    start = ("-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", str(port))
    return subprocess.run(
        [sys.executable, *start, *words], env=environment, capture_output=True, text=True, timeout=timeout
    )


@pytest.fixture(scope="module")
def together(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes found, all in one start of theirs."""
    out = tmp_path_factory.mktemp("two")
    done = launched(str(Path(two.__file__)), tiny_model, str(out))
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.mark.parametrize("name", list(two.CASES))
def test_the_first_gradient_is_that_of_one_process(together: Path, tiny_model: str, tmp_path: Path, name: str) -> None:
    compare(together, tiny_model, tmp_path, name, two.CASES[name])


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=has_deepspeed if "deepspeed" in name else ()) for name in two.CUT]
)
def test_so_it_is_with_the_model_cut_up(together: Path, tiny_model: str, tmp_path: Path, name: str) -> None:
    training = {key: value for key, value in two.CUT[name].items() if key not in ("fsdp", "deepspeed")}
    compare(together, tiny_model, tmp_path, name, training)


def compare(together: Path, model: str, work: Path, name: str, training: dict[str, Any]) -> None:
    loss, alone = two.gradient(model, training, work)
    largest = max(float(part.abs().max()) for part in alone.values())
    assert largest > 1e-3
    assert ("of the loss: weight" in alone) == (training.get("projection") == "learned")
    for rank in (0, 1):
        found_loss, found = torch.load(together / f"{name}-{rank}.pt")
        if not training.get("anchor"):  # whose value the first process alone knows
            assert found_loss == pytest.approx(loss, abs=1e-5)
        for weight, part in alone.items():
            torch.testing.assert_close(found[weight], part, atol=1e-5, rtol=1e-4, msg=f"{name}: {weight}")
        for weight in found.keys() - alone.keys():  # DeepSpeed has a gradient of zeros where there is none
            assert float(found[weight].abs().max()) == 0


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=has_deepspeed if "deepspeed" in name else ()) for name in two.CLIPPED]
)
def test_a_long_gradient_is_shortened_as_by_one_process(
    together: Path, tiny_model: str, tmp_path: Path, name: str
) -> None:
    training = {key: value for key, value in two.CLIPPED[name].items() if key not in ("fsdp", "deepspeed")}
    length, alone = two.clipped(tiny_model, training, tmp_path)
    assert length > 4 * training["max_grad_norm"]
    shortened = float(torch.cat([part.flatten() for part in alone.values()]).norm())
    assert shortened == pytest.approx(training["max_grad_norm"], rel=0.05)
    lengths = [torch.load(together / f"{name}-clipped-{rank}.pt")[0] for rank in (0, 1)]
    assert lengths == pytest.approx([length, length], rel=1e-4)
    _, found = torch.load(together / f"{name}-clipped-0.pt")
    for weight, part in alone.items():
        torch.testing.assert_close(found[weight], part, atol=1e-6, rtol=1e-3, msg=f"{name}: {weight}")


@pytest.mark.parametrize("name", list(two.HALF))
def test_in_bf16_with_layers_computed_again_gradients_are_near(
    together: Path, tiny_model: str, tmp_path: Path, name: str
) -> None:
    loss, exact = two.gradient(tiny_model, {}, tmp_path)
    longest = float(torch.cat(list(exact.values())).norm())
    for rank in (0, 1):
        found_loss, found = torch.load(together / f"{name}-half-{rank}.pt")
        assert found_loss == pytest.approx(loss, rel=0.01) and found_loss != loss
        assert found.keys() == exact.keys()
        for weight, part in exact.items():
            assert (found[weight] - part).norm() <= 0.03 * part.norm() + 1e-6 * longest, weight


@pytest.mark.parametrize("name", ["ddp", "fsdp", pytest.param("zero", marks=has_deepspeed)])
def test_a_resumed_training_ends_as_an_undisturbed_one(together: Path, name: str) -> None:
    whole, resumed, _ = torch.load(together / f"{name}-fitted.pt")
    for weight, part in whole.items():
        torch.testing.assert_close(resumed[weight], part, atol=1e-6, rtol=1e-5, msg=weight)


@pytest.mark.parametrize("name", ["fsdp", pytest.param("zero", marks=has_deepspeed)])
def test_a_model_cut_up_learns_what_a_whole_one_does(
    together: Path, tiny_model: str, tmp_path: Path, name: str
) -> None:
    encoder, state = two.fitted(tiny_model, {}, tmp_path)
    before = two.made(tiny_model, {})[1].model.state_dict()
    _, _, log = torch.load(together / f"{name}-fitted.pt")
    losses = [[row["loss"] for row in rows if "loss" in row] for rows in (log, state.log)]
    assert losses[0] == pytest.approx(losses[1], abs=2e-3)
    weights, _, _ = torch.load(together / f"{name}-fitted.pt")
    moved = max(float((part - before[weight]).abs().max()) for weight, part in encoder.model.state_dict().items())
    apart = max(float((part - weights[weight]).abs().max()) for weight, part in encoder.model.state_dict().items())
    assert apart < 0.2 * moved


def test_the_others_end_with_the_status_of_the_first(together: Path) -> None:
    assert json.loads((together / "followed.json").read_text()) == 7


def test_the_command_ends_with_one_model(tiny_model: str, divided: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    words = ("-m", "fieldtune", "train", "--data", str(divided), "--model", tiny_model, "--out", str(out))
    quick = ("--preset", "quick", "--set", "training.precision=fp32", "--set", "training.epochs=1")
    done = launched(*words, *quick)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Trained by 2 processes" in done.stdout
    assert done.stdout.count(f"model: {out}") == 1  # the first process alone speaks
    assert (out / "modules.json").exists()
    again = launched(*words, *quick, "--set", "training.learning_rate=1e30", "--set", "training.epochs=2")
    assert again.returncode != 0
    # Weights of that size are seen in the loss, or before it on dev.
    assert "the loss is" in again.stderr or "a vector with NaN" in again.stderr, again.stderr[:1500]


def test_a_process_that_fails_takes_the_others_along(tiny_model: str, tmp_path: Path) -> None:
    script = tmp_path / "failing.py"
    script.write_text(
        "import sys, time\n"
        "from fieldtune.errors import ModelError\n"
        "from fieldtune.launched import run_command\n"
        "from fieldtune.training.devices import follow\n"
        "from fieldtune.training.devices.orders import Done\n"
        "from fieldtune.training.devices.world import current\n"
        "def failing(world):\n"
        "    raise ModelError('the second one fails')\n"
        "follow.follow = failing\n"
        "def waiting():\n"
        "    import torch\n"
        "    world = current()\n"
        "    with world.together():\n"
        "        torch.distributed.all_reduce(torch.zeros(3))\n"
        "sys.exit(run_command(waiting, debug=False))\n"
    )
    done = launched(str(script), timeout=120)
    assert done.returncode != 0
    assert "the second one fails" in done.stderr and "process 2 of 2" in done.stderr


def test_every_text_is_in_one_share_and_shares_are_even() -> None:
    import numpy as np

    lengths = np.array([9, 1, 8, 2, 7, 3, 100])
    shares = Passes(0, 3).shares(lengths)
    assert sorted(np.concatenate(shares).tolist()) == list(range(7))
    assert {len(share) for share in shares} == {2, 3}
    assert [share.tolist() for share in Passes().shares(lengths)] == [list(range(7))]


@pytest.mark.parametrize(
    ("section", "named"),
    [
        ({"train_batch_size": 32}, "train_batch_size is 32"),
        ({"train_micro_batch_size_per_gpu": 64}, "train_micro_batch_size_per_gpu is 64"),
        ({"gradient_accumulation_steps": 2}, "gradient_accumulation_steps is 2"),
        ({"gradient_clipping": 0.5}, "gradient_clipping is 0.5"),
        ({"fp16": {"enabled": True}}, "fp16.enabled is true"),
        ({"optimizer": {"type": "Adam"}}, "optimizer"),
        ({"zero_optimization": {"stage": 0}}, "zero_optimization.stage is 0"),
    ],
)
def test_a_deepspeed_file_that_contradicts_the_config_is_named_with_the_field(
    tmp_path: Path, section: dict[str, Any], named: str
) -> None:
    path = tmp_path / "zero.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": 2}} | section))
    with pytest.raises(ConfigError) as caught:
        deepspeed_settings(path, make_config({}).training, "bf16", 2)
    assert named in caught.value.message and str(path) in caught.value.message


def test_auto_in_a_deepspeed_file_takes_the_configs_value(tmp_path: Path) -> None:
    path = tmp_path / "zero.json"
    half = {"enabled": "auto"}
    path.write_text(json.dumps({"zero_optimization": {"stage": 3}, "bf16": half, "gradient_clipping": "auto"}))
    training = make_config({"training": {"max_grad_norm": 0.7}}).training
    assert deepspeed_settings(path, training, "bf16", 2)["bf16"] == {"enabled": True}
    made = deepspeed_settings(path, training, "fp32", 2)
    assert made["bf16"] == {"enabled": False} and made["gradient_clipping"] == 0.7
    path.write_text("[1]")
    with pytest.raises(InputError):
        deepspeed_settings(path, training, "fp32", 2)


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({"fsdp": True}, "needs a launcher"),
        ({"fsdp": True, "deepspeed": "zero.json"}, "both cut the model up"),
    ],
)
def test_settings_of_several_devices_alone(training: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        require_devices(make_config({"training": training}))


def test_what_does_not_go_with_several_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="batch_size is 2, for 4 processes"):
        require_devices(make_config({"training": {"batch_size": 2}}))
    with pytest.raises(ConfigError, match=r"anchor=0.5 does not go with training.fsdp"):
        require_devices(make_config({"training": {"anchor": 0.5, "fsdp": True}}))
    path = tmp_path / "zero.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": 2}}))
    monkeypatch.setattr(requirements, "require_deepspeed", missing)
    with pytest.raises(MissingExtraError) as caught:
        require_devices(make_config({"training": {"deepspeed": str(path)}}))
    assert caught.value.hint == "pip install 'fieldtune[deepspeed]'"


def missing() -> None:
    raise MissingExtraError("deepspeed", "deepspeed")
