"""Tests of gramcli: one folder for each of its packages, and four more.

- ``support``: helpers and fixtures.
- ``resilience``: kills, power cuts, full disks, damaged and hostile files, and caches of earlier versions.
- ``studies``: the programs behind documented figures of quality, each with tests of its own.
- ``benchmarks``: the programs behind documented figures of speed.

``pytest`` runs all but the long trials, which ``pytest -m slow`` runs. ``pytest -n 2 --dist loadfile`` runs two files
at a time; ``OMP_NUM_THREADS=1`` keeps them out of each other's way.
"""
