"""The commands that tests interrupt. For each: the cache before, the cache expected afterwards, and a check of both."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.support.forked_commands import ForkedCommands

TEMPORARY = re.compile(r"\..+\.tmp")
MANY_SHARDS = ["extract", "--clips-per-shard", "2"]


def contents(cache: Path) -> dict[str, bytes]:
    """What a cache holds; not the lock, which names its last holder, nor the records of runs, which tell the time."""
    files = {str(path.relative_to(cache)): path for path in cache.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name != "lock" and not name.startswith("runs/")}


def whole(content: dict[str, bytes]) -> dict[str, bytes]:
    return {name: bytes for name, bytes in content.items() if not TEMPORARY.fullmatch(Path(name).name)}


def shards(cache: Path) -> dict[str, tuple[int, int]]:
    """Shards that are there, and the file that each of them is."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in cache.rglob("*.h5")}


@dataclass
class Case:
    """A command, the cache that it finds, and the one that it leaves when nothing goes wrong."""

    trials: ForkedCommands
    cache: Path
    command: list[str]
    base: Path | None
    before: dict[str, bytes]
    after: dict[str, bytes]
    calls: list[str]
    written: int
    seconds: float
    passing: frozenset[str] = frozenset()
    """Files that are not there halfway, or are not at the end."""

    @classmethod
    def of(
        cls, trials: ForkedCommands, cache: Path, command: list[str], base: Path | None, passing: Iterable[str] = ()
    ) -> Case:
        case = cls(trials, cache, command, base, {}, {}, [], 0, 0.0, frozenset(passing))
        case.reset()
        case.before = contents(cache) if base else {}
        done = trials.run(command)
        assert done.code == 0, done.err
        case.after, case.calls, case.written, case.seconds = contents(cache), done.calls, done.written, done.seconds
        assert case.before != case.after == whole(case.after)
        return case

    def reset(self) -> None:
        shutil.rmtree(self.cache, ignore_errors=True)
        if self.base:
            shutil.copytree(self.base, self.cache)

    def check(self) -> None:
        """Everything is the old file or the new one, nothing is lost, and the same command goes on to the same end."""
        found = whole(contents(self.cache))
        assert set(self.before) <= set(found) | self.passing
        for name, content in found.items():
            assert content in (self.before.get(name), self.after.get(name)), name
        committed = shards(self.cache)
        again = self.trials.run(self.command)
        assert again.code == 0, again.err
        assert contents(self.cache) == self.after
        assert not [path for path in self.cache.rglob("*") if TEMPORARY.fullmatch(path.name)]
        for record in self.cache.glob("runs/*"):
            json.loads(record.read_text())
        there = shards(self.cache).items()
        assert {
            shard for shard in committed.items() if shard[0] not in {Path(name).name for name in self.passing}
        } <= there
