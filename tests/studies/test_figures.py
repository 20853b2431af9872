"""Parts of the study of documented figures that can run without a network and without recordings of speech."""

import json
import tomllib

import numpy as np
import pytest
import soundfile

from gramcli.settings import sources
from tests.studies import figures


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    (folder / "audio").mkdir(parents=True)
    lines = ["filename,fold,category,source"]
    rng = np.random.default_rng(0)
    for fold in (1, 5):
        for label in ("rain", "rooster"):
            name = f"{fold}-{label}.ogg"
            soundfile.write(folder / "audio" / name, 0.1 * rng.normal(size=8000), 8000)
            lines.append(f"{name},{fold},{label},{fold}{label}")
    (folder / "meta.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_places_are_fold_5_under_each_condition(tmp_path, data):
    truth = figures.places(tmp_path / "fold5", data)
    assert truth == {"5-rain.wav": "rain", "5-rooster.wav": "rooster"}
    levels = {}
    for place in figures.PLACES:
        assert sorted(path.name for path in (tmp_path / "fold5" / place).iterdir()) == sorted(truth)
        samples, rate = soundfile.read(tmp_path / "fold5" / place / "5-rain.wav")
        assert (len(samples), rate) == (8000, 8000)
        levels[place] = 10 * np.log10(np.mean(samples**2))
    assert levels["quiet"] == pytest.approx(levels["clean"] - 20, abs=0.01)
    assert levels["noise"] == pytest.approx(levels["clean"] + 10 * np.log10(1.01), abs=0.05)


def test_a_project_has_the_settings_of_its_network(tmp_path, data):
    about = {"classes": ["rain", "rooster"], "seconds": 5.0, "mean": -15.5, "std": 21.25}
    (tmp_path / "esc10_fold5_resnet18.json").write_text(json.dumps(about))
    project = figures.Project.make(tmp_path / "out", data, tmp_path, "resnet18")
    text = (project.folder / "gramcli.toml").read_text()
    chosen = sources.resolve(sources.source(tomllib.loads(text), "figures", tmp_path))
    assert (chosen.data.validation_fold, chosen.data.test_fold) == ("1", "5")
    assert (chosen.frontend.mean, chosen.frontend.std, chosen.segment.seconds) == (-15.5, 21.25, 5.0)
    assert (chosen.network.name, chosen.network.classes, chosen.network.with_means) == (
        "resnet18",
        ("rain", "rooster"),
        True,
    )
