"""Gram-OOD and Gram-OOD* against slow transcriptions of their authors' code, class by class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F

from gramcli.cache import clip_table
from gramcli.cache.view import View
from gramcli.extraction.extract import extract
from gramcli.metrics.ood import auroc
from gramcli.network import capture, frontend
from gramcli.network.prepare import build_network, probe
from gramcli.settings.run_context import RunContext
from tests.studies.gram_ood import GRAM_OOD, GRAM_OOD_STAR, ORDERS, Clips, record, roots, score
from tests.support.sets import CLASSES, ROOT, quick, write_set

pytestmark = pytest.mark.no_cover  # the package has tests of its own

LAYERS = {"early": (12, 4, 5), "late": (20, 2, 1)}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def maps_of(rng, clips: int, labels: np.ndarray, spread: float = 1.0) -> dict[str, torch.Tensor]:
    """Feature maps, some of them negative, in which the channel of the label is larger than the others."""
    found = {}
    for name, shape in LAYERS.items():
        values = rng.normal(scale=spread, size=(clips, *shape))
        values[np.arange(clips), labels % shape[0]] += 4.0
        found[name] = torch.from_numpy(values)
    return found


@pytest.fixture
def splits(rng):
    """Maps and logits of training, validation and judged clips; not all training clips are taken for what they are."""
    result = []
    for clips, spread in ((60, 1.0), (20, 1.0), (15, 1.5)):
        labels = rng.integers(0, 3, clips)
        logits = rng.normal(size=(clips, 3)) + 2 * np.eye(3)[labels]
        result.append((maps_of(rng, clips, labels, spread), torch.from_numpy(logits)))
    return result


def ours(maps: dict[str, torch.Tensor], logits: torch.Tensor) -> Clips:
    return Clips({name: roots(one).numpy() for name, one in maps.items()}, F.log_softmax(logits, dim=1).numpy())


# --- VectorInstitute/gram-ood-detection


def G_p(ob: torch.Tensor, p: int) -> torch.Tensor:  # noqa: N802 - theirs
    temp = ob.detach()
    temp = temp**p
    temp = temp.reshape(temp.shape[0], temp.shape[1], -1)
    temp = torch.matmul(temp, temp.transpose(2, 1)).sum(dim=2)
    return (temp.sign() * torch.abs(temp) ** (1 / p)).reshape(temp.shape[0], -1)


def sastry(splits) -> np.ndarray:
    def minmax(maps, chosen):
        mins, maxs = [], []
        for one in maps.values():
            mins.append([G_p(one[chosen], p).min(dim=0, keepdim=True)[0] for p in ORDERS])
            maxs.append([G_p(one[chosen], p).max(dim=0, keepdim=True)[0] for p in ORDERS])
        return mins, maxs

    def get_deviations(maps, chosen, mins, maxs):
        deviations = []
        for layer, one in enumerate(maps.values()):
            dev = 0
            for n, p in enumerate(ORDERS):
                g_p = G_p(one[chosen], p)
                dev += (F.relu(mins[layer][n] - g_p) / torch.abs(mins[layer][n] + 10**-6)).sum(dim=1, keepdim=True)
                dev += (F.relu(g_p - maxs[layer][n]) / torch.abs(maxs[layer][n] + 10**-6)).sum(dim=1, keepdim=True)
            deviations.append(dev)
        return torch.cat(deviations, dim=1)

    (train, train_logits), *others = splits
    found = []
    for maps, logits in others:
        confs, preds = F.softmax(logits, dim=1).max(dim=1)
        everything = torch.zeros(len(logits), len(maps), dtype=torch.float64)
        for label in range(logits.shape[1]):
            mins, maxs = minmax(train, train_logits.argmax(dim=1) == label)
            chosen = preds == label
            if chosen.any():
                everything[chosen] = get_deviations(maps, chosen, mins, maxs) / confs[chosen, None]
        found.append(everything)
    validation, test = found
    t95 = validation.mean(dim=0) + 10**-7
    return (test / t95[None, :]).sum(dim=1).numpy()


def test_gram_ood_is_its_authors(splits):
    found = score(GRAM_OOD, *(ours(*one) for one in splits))
    wanted = sastry(splits)
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    assert np.unique(wanted.round(6)).size == len(wanted)


# --- paaatcha/gram-ood


def pacheco(splits) -> np.ndarray:
    """Clip by clip and channel by channel, order 1."""

    def descriptor(one: torch.Tensor) -> list[float]:
        flat = one.reshape(one.shape[0], -1)
        gram = flat @ flat.T
        sums = [float(sum(gram[k, i] for i in range(len(gram)))) for k in range(len(gram))]
        return [(value - min(sums)) / (max(sums) - min(sums)) for value in sums]

    (train, train_logits), *others = splits
    bounds: dict[tuple[int, str, int], tuple[float, float]] = {}
    for name, one in train.items():
        for n in range(len(one)):
            for k, value in enumerate(descriptor(one[n])):
                where = (int(train_logits[n].argmax()), name, k)
                low, high = bounds.get(where, (np.inf, -np.inf))
                bounds[where] = min(low, value), max(high, value)
    found = []
    for maps, logits in others:
        rows = []
        for n in range(len(logits)):
            row = []
            for name, one in maps.items():
                far = 0.0
                for k, value in enumerate(descriptor(one[n])):
                    low, high = bounds[int(logits[n].argmax()), name, k]
                    if value < low:
                        far += (low - value) / abs(low + 1e-5)
                    elif value > high:
                        far += (value - high) / abs(high + 1e-5)
                row.append(far)
            rows.append(row)
        found.append(np.array(rows))
    return (found[1] / (found[0].mean(axis=0) + 1e-7)).sum(axis=1)


def test_gram_ood_star_is_its_authors(splits):
    found = score(GRAM_OOD_STAR, *(ours(*one) for one in splits))
    wanted = pacheco(splits)
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    assert np.unique(wanted.round(6)).size == len(wanted)


@pytest.mark.parametrize("method", [GRAM_OOD, GRAM_OOD_STAR], ids=["gram_ood", "gram_ood_star"])
def test_clips_that_set_the_bounds_lie_within_and_others_without(splits, rng, method):
    training, validation, _ = (ours(*one) for one in splits)
    np.testing.assert_array_equal(score(method, training, validation, training), 0)
    labels = rng.integers(0, 3, 30)
    logits = torch.from_numpy(4.0 * np.eye(3)[labels])
    near, far = (
        score(method, training, validation, ours(maps_of(rng, 30, channel), logits)) for channel in (labels, labels + 5)
    )
    assert auroc(near, far) > 0.8


def test_a_class_that_nothing_is_taken_for_has_no_bounds(splits):
    training, validation, judged = (ours(*one) for one in splits)
    never = np.array([0.0, 0.0, -50.0])
    without = Clips(training.roots, training.log_p + never)
    assert set(without.log_p.argmax(axis=1)) == {0, 1}
    for method in (GRAM_OOD_STAR, replace(GRAM_OOD, confidence=False)):
        found = score(method, without, validation, judged)
        elsewhere = Clips(validation.roots, validation.log_p + never), Clips(judged.roots, judged.log_p + never)
        np.testing.assert_array_equal(found, score(method, without, *elsewhere))


def test_a_layer_whose_channels_are_equal_says_nothing(splits):
    flat = [({**maps, "flat": torch.ones(len(logits), 4, 2)}, logits) for maps, logits in splits]
    plain, more = (score(GRAM_OOD_STAR, *(ours(*one) for one in some)) for some in (splits, flat))
    np.testing.assert_array_equal(plain, more)


def test_large_activations_keep_their_tenth_power():
    found = roots(torch.full((1, 8, 1000), 1e3))
    wanted = [(8 * 1000 * 1e3 ** (2 * p)) ** (1 / p) for p in ORDERS]
    np.testing.assert_allclose(found[0, :, 0].numpy(), wanted, rtol=1e-9)


@pytest.mark.parametrize("network", ["ResNet", "DenseNet", "Vgg"])
def test_order_one_is_what_the_cache_holds(tmp_path, network):
    """Shared and in-place activations included."""
    settings = quick(write_set(tmp_path / "sounds"), tmp_path / "cache", f"tests.support.toys:{network}")
    extract(settings, RunContext(folder=ROOT))
    clips = clip_table.require(tmp_path / "cache").used("test")
    built = build_network(settings, sorted(CLASSES), RunContext(folder=ROOT))
    front = frontend.build(settings.frontend)
    layers = capture.choose(probe(built, front, 2000, settings.network).layers, ("*",))
    samples = [torch.from_numpy(_samples(Path(clip.path)))[None] for clip in clips]
    found = record(built.module, layers, [front(torch.cat(samples[first : first + 2])) for first in range(0, 9, 2)])
    view = View.open(tmp_path / "cache")
    assert set(found) == set(view.layers)
    for n, clip in enumerate(clips):
        for layer, values in view.read(clip.shard).descriptors.items():
            wanted = values[clip.row]
            np.testing.assert_allclose(found[layer][n, 0], wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())


def _samples(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="float32")[0]
