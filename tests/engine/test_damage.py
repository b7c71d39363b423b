from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lmeval.demo import DEMO_MODELS
from lmeval.engine.damage import damage_layer
from lmeval.engine.sources import ModelOptions
from lmeval.listener import Silence
from lmeval.run import find, load


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMEVAL_CACHE", str(tmp_path / "cache"))


def engine(model: str) -> Any:
    return load(find(ModelOptions(model, device="cpu")), Silence())


def weights(loaded: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in loaded.network.model.state_dict().items()}


@pytest.mark.parametrize("model", DEMO_MODELS)
def test_damage_is_noise_on_the_matrices_of_one_layer(model: str) -> None:
    loaded, again = engine(model), engine(model)
    before, identity = weights(loaded), loaded.model
    layer = damage_layer(loaded, 0.5)
    after = weights(loaded)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if f"{layer}." in name and before[name].ndim >= 2}
    for name in changed:
        noise = after[name] - before[name]
        if noise.numel() > 1000:
            assert float(noise.std() / before[name].std()) == pytest.approx(0.5, rel=0.1)
    assert loaded.model.weights_sha256 != identity.weights_sha256
    assert damage_layer(again, 0.5) == layer
    assert all(torch.equal(tensor, after[name]) for name, tensor in weights(again).items())


def test_another_seed_or_strength_is_other_damage() -> None:
    hashes = set()
    for strength, seed in ((0.5, 0), (0.5, 1), (1.0, 0)):
        loaded = engine("demo")
        damage_layer(loaded, strength, seed)
        hashes.add(loaded.model.weights_sha256)
    assert len(hashes) == 3
