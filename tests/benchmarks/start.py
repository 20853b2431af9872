"""Time of a command before its work begins, against the bare imports that the work needs."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.benchmarks.measure import Figure, fresh, gramcli, run, seconds

# timm needs the remedy where torchvision does not fit a CPU build of torch
BARE_ZOO = """
import torch
from gramcli import torch_family
timm = torch_family.timm()
module = timm.create_model("resnet18", num_classes=10, in_chans=1).eval()
with torch.inference_mode():
    module(torch.zeros(1, 1, 128, 251))
"""
FACTORY = """
from torch import nn

def small(num_classes):
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2), nn.ReLU(), nn.Conv2d(16, 32, 3, 2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, num_classes),
    )
"""
BARE_FACTORY = """
import torch, own
module = own.small(10).eval()
with torch.inference_mode():
    module(torch.zeros(1, 1, 128, 251))
"""
# what a command has imported by its end
IMPORTED = """
import sys
from gramcli.cli.app import main
sys.argv[1:] = {arguments!r}
try:
    main()
except SystemExit:
    pass
print("IMPORTED", [name for name in ("torch", "scipy", "numba", "h5py", "timm") if name in sys.modules])
"""
FILES = 1000


def calibrated(folder: Path, data: Path, network: str) -> tuple[Path, float]:
    """Returns a project whose network has gone through the whole way, and the seconds per clip that extract took."""
    (folder / "gramcli.toml").write_text(
        f'[data]\nmanifest = "{data / "meta.csv"}"\nvalidation_fold = 1\ntest_fold = 5\n'
        f'[segment]\nseconds = 5\n[network]\nname = "{network}"\n'
    )
    (folder / "own.py").write_text(FACTORY)
    took = gramcli("extract", "--trust-code", folder=folder).seconds
    gramcli("calibrate", folder=folder)
    gramcli("select-layers", folder=folder)
    return folder, took


def imported(folder: Path, *arguments: str) -> str:
    """Returns which large packages a command has imported."""
    out = run(sys.executable, "-c", IMPORTED.format(arguments=arguments), folder=folder).stdout
    return out.rpartition("IMPORTED ")[2].strip()


def measure(folder: Path, data: Path | None) -> list[Figure]:
    """Takes the figures; those of classify only with recordings."""
    completion = {"_GRAMCLI_COMPLETE": "complete_bash", "COMP_WORDS": "gramcli ex", "COMP_CWORD": "1"}
    took = seconds(
        {"--help": lambda: gramcli("--help"), "completion": lambda: gramcli(**completion)}, 7
    )  # fmt: skip
    figures = [
        Figure(8, f"gramcli {name}, imports {imported(folder, '--help')}", least, "s", most=0.3)
        for name, least in took.items()
    ]
    if data is None:
        return figures
    one = str(sorted((data / "audio").glob("5-*.ogg"))[0])
    for network, bare, most in (("resnet18", BARE_ZOO, 1.15), ("own:small", BARE_FACTORY, 1.8)):
        project, extracting = calibrated(fresh(folder / network.partition(":")[0]), data, network)

        def classify(project: Path = project) -> None:
            gramcli("classify", "--trust-code", one, folder=project)

        def baseline(project: Path = project, bare: str = bare) -> None:
            run(sys.executable, "-c", bare, folder=project)

        cold = seconds({"classify": classify, "bare": baseline}, 7)
        there = imported(project, "classify", "--trust-code", one)
        what = f"classify of one file with {network}, cold, over the bare network; imports {there}"
        figures.append(Figure(9, what, cold["classify"] / cold["bare"], most=most, about=cold))
        if network == "resnet18":
            many = fresh(project / "many")
            files = sorted((data / "audio").glob("*.ogg"))
            for number in range(FILES):
                (many / f"{number:04d}.ogg").symlink_to(files[number % len(files)])
            both = {"classify": gramcli("classify", many, folder=project).seconds, "extract": extracting}
            rates = (FILES / both["classify"]) / (len(files) / both["extract"])
            figures.append(
                Figure(9, f"classify of {FILES} files, files a second over extract's", rates, least=0.9, about=both)
            )
    return figures
