"""Every command on randomly changed files ends with a documented exit code and one line of explanation."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from gramcli.errors import Exit
from tests.resilience.test_mutated_files import sealed, sealed_shard
from tests.support.mutations import mutated

COMMANDS = (
    ("extract",), ("calibrate",), ("select-layers",), ("classify", "sounds/hum-3-0.wav"), ("evaluate",),
    ("cache", "verify"), ("cache", "info"), ("cache", "clean"), ("cache", "verify", "--repair"),
)  # fmt: skip


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_no_file_makes_a_command_stumble(calibrated, gramcli, count):
    shutil.copytree(".gramcli", "whole")
    manifest = Path("sounds/manifest.csv").read_bytes()
    names = sorted(str(path.relative_to("whole")) for path in Path("whole").rglob("*") if path.is_file())
    names = [name for name in names if not name.startswith(("runs/", "lock"))]
    assert len(names) == 9
    codes = set()
    for n in range(count):
        chance = random.Random(n)
        shutil.rmtree(".gramcli")
        shutil.copytree("whole", ".gramcli")
        name = chance.choice([*names, ""])
        path = Path(".gramcli", name) if name else Path("sounds/manifest.csv")
        content = mutated(path.read_bytes(), chance, [manifest])
        seal = {".h5": sealed_shard, ".safetensors": sealed}.get(path.suffix, bytes)
        path.write_bytes(seal(content) if chance.random() < 0.5 else content)
        command = chance.choice(COMMANDS)
        done = gramcli(*command)
        told = f"case {n}: {command} over {path}: {done}"
        assert done.code != Exit.INTERNAL, told
        assert "Traceback" not in done.err, told
        assert done.code == 0 or done.err.count("error: ") == 1, told
        Path("sounds/manifest.csv").write_bytes(manifest)
        codes.add(done.code)
    assert {Exit.OK, Exit.DAMAGED} <= codes
