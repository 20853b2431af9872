"""Folders for the pages' commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guide.folders import Folders


@pytest.fixture(scope="session")
def page_folders(tmp_path_factory) -> Folders:
    return Folders(tmp_path_factory.mktemp("pages"))


@pytest.fixture
def demo_folder(page_folders) -> Path:
    """What the demo leaves, to play with."""
    return page_folders.copy("demo")
