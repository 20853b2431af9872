"""Tensors that cannot be meant as weights, and headers that cannot be meant at all."""

from __future__ import annotations

import io
import json
import math
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gramcli.errors import ArtefactError, UnsafeError
from gramcli.network import checkpoint
from gramcli.system.safetensors_header import BITS
from tests.support import toys

REAL = {"F16", "BF16", "F32", "F64"}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return toys.make(toys.ResNet)


def file_of(header: dict[str, Any] | bytes, body: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def tensor(dtype: Any, shape: list[Any], first: Any, stop: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, stop]}


def load(network: nn.Module, path: Path) -> None:
    checkpoint.load_into(toys.ResNet(), checkpoint.read(path).weights(), path)


def refused(network: nn.Module, path: Path, message: str) -> None:
    with warnings.catch_warnings(action="error"), pytest.raises(ArtefactError, match=message) as caught:
        load(network, path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("code", sorted(BITS.keys() - REAL))
def test_types_that_are_no_weights_are_refused(tmp_path: Path, network: nn.Module, code: str) -> None:
    header, end = {}, 0
    for name, one in network.state_dict().items():
        shape = [*one.shape] if BITS[code] % 8 == 0 else [*one.shape, 8]
        first, end = end, end + math.prod(shape) * BITS[code] // 8
        header[name] = tensor(code, shape, first, end)
    (tmp_path / "net").write_bytes(file_of(header, bytes(end)))
    refused(network, tmp_path / "net", r"net: (.* is stored as|does not fit the network: \d+ of another kind: conv1)")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_taken(tmp_path: Path, network: nn.Module, dtype: torch.dtype) -> None:
    state = {name: one.to(dtype) if one.is_floating_point() else one for name, one in network.state_dict().items()}
    save_file(state, tmp_path / "net")
    load(network, tmp_path / "net")
    bad = {name: torch.full_like(one, math.nan) if one.is_floating_point() else one for name, one in state.items()}
    save_file(bad, tmp_path / "net")
    refused(network, tmp_path / "net", "24 not finite: conv1.weight")


def test_numbers_must_be_finite_in_the_networks_own_type(tmp_path: Path, network: nn.Module) -> None:
    state = {name: one.double() if one.is_floating_point() else one for name, one in network.state_dict().items()}
    state["fc.bias"] = torch.full((3,), 1e300, dtype=torch.float64)
    save_file(state, tmp_path / "net")
    refused(network, tmp_path / "net", r"1 not finite: fc\.bias")


HEADERS = {
    "none": file_of({}),
    "metadata alone": file_of({"__metadata__": {"a": "b"}}),
    "metadata that is no text": file_of({"__metadata__": {"gramcli": 3}, "a": tensor("F32", [1], 0, 4)}, bytes(4)),
    "overlap": file_of({"a": tensor("F32", [2], 0, 8), "b": tensor("F32", [2], 4, 12)}, bytes(12)),
    "behind the end": file_of({"a": tensor("F32", [2], 0, 800)}, bytes(8)),
    "gap": file_of({"a": tensor("F32", [2], 4, 12)}, bytes(12)),
    "rest": file_of({"a": tensor("F32", [2], 0, 8)}, bytes(12)),
    "negative": file_of({"a": tensor("F32", [-2], 0, 8)}, bytes(8)),
    "twice": file_of(b'{"a": {}, "a": {}}'),
    "huge": file_of({"a": tensor("F32", [2**40, 2**40], 0, 8)}, bytes(8)),
    "overflow": file_of({"a": tensor("F32", [2**62, 4], 0, 0)}),
    "huge without numbers": file_of({"a": tensor("F32", [0, 10**30], 0, 0)}),
    "longer than the file": file_of(b"{}", length=1 << 40),
    "longest": file_of(b"{" + b" " * 100_000_000 + b"}"),
    "dimensions": file_of({"a": tensor("F32", [1] * 100, 0, 4)}, bytes(4)),
    "booleans": file_of({"a": tensor("F32", [True], False, 4)}, bytes(4)),
    "fractions": file_of({"a": tensor("F32", [1.0], 0.0, 4.0)}, bytes(4)),
    "deep": file_of(b'{"a": ' + b"[" * 100_000),
    "no tensor": file_of({"a": [1]}),
    "no type": file_of({"a": tensor(None, [1], 0, 4)}, bytes(4)),
    "NaN": file_of(b'{"a": NaN}'),
}


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS.keys())
def test_headers_that_cannot_be_meant(tmp_path: Path, network: nn.Module, content: bytes) -> None:
    (tmp_path / "net").write_bytes(content)
    refused(network, tmp_path / "net", r"net: (is no safetensors file|holds no weights)")


@pytest.mark.parametrize("size", [1 << 63, 1 << 100])
def test_a_shape_without_numbers_beyond_all_bounds(tmp_path: Path, network: nn.Module, size: int) -> None:
    (tmp_path / "net").write_bytes(file_of({"a": tensor("F32", [0, size], 0, 0)}))
    refused(network, tmp_path / "net", r"net: (is no safetensors file|a is no dense tensor)")


def quietly(make: Any) -> Tensor:
    with warnings.catch_warnings(action="ignore"):
        return make()


ODD = {
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "quantised": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    "sparse": lambda: torch.eye(3).to_sparse(),
    "rows": lambda: torch.eye(3).to_sparse_csr(),
    "meta": lambda: torch.empty(3, device="meta"),
    "float8": lambda: torch.ones(3).to(torch.float8_e4m3fn),
    "exponents": lambda: torch.ones(3).to(torch.float8_e8m0fnu),
    "unsigned": lambda: torch.ones(3).to(torch.uint16),
    "expanded": lambda: torch.ones(1).expand(1 << 40),
    "complex": lambda: torch.ones(3, dtype=torch.complex64),
    "conjugate": lambda: torch.ones(3, dtype=torch.complex64).conj(),
    "whole": lambda: torch.ones(3).long(),
}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD.keys())
def test_pickled_tensors_that_are_no_weights(tmp_path: Path, network: nn.Module, make: Any) -> None:
    state = {**network.state_dict(), "fc.bias": quietly(make)}
    quietly(lambda: torch.save(state, tmp_path / "net.pt"))
    refused(
        network, tmp_path / "net.pt", r"fc\.bias (is no dense tensor|is stored as|\w+ for float32)|is no checkpoint"
    )


def test_tensors_of_other_classes_are_refused(tmp_path: Path) -> None:
    tensor = quietly(lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged))
    torch.save({"a": tensor}, tmp_path / "net.pt")
    with pytest.raises(UnsafeError, match=r"holds torch\._tensor\._rebuild_from_type_v2, which could run code"):
        checkpoint.read(tmp_path / "net.pt").weights()


def archive(path: Path, compression: int = zipfile.ZIP_STORED, inside: str = "") -> None:
    content = io.BytesIO()
    torch.save({"a": torch.ones(3)}, content)
    with zipfile.ZipFile(content) as one, zipfile.ZipFile(path, "w", compression) as other:
        for member in one.infolist():
            other.writestr(member.filename, one.read(member))
        if inside:
            other.writestr(inside, content.getvalue())


def test_compressed_archives_are_refused_and_one_within_another_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    archive(path)
    assert checkpoint.read(path).weights().keys() == {"a"}
    for compression in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        archive(path, compression)
        with pytest.raises(UnsafeError, match="no such archive is loaded"):
            checkpoint.read(path)
    archive(path, inside="archive/data/more")
    assert checkpoint.read(path).weights().keys() == {"a"}
    with zipfile.ZipFile(path, "w") as outer:
        outer.writestr("net.pt", b"PK\3\4")
    with pytest.raises(ArtefactError, match="is no checkpoint"):
        checkpoint.read(path).weights()


def test_tensors_at_odd_places_are_read_all_the_same(tmp_path: Path) -> None:
    header = {"a": tensor("U8", [3], 0, 3), "b": tensor("F32", [2], 3, 11), "c": tensor("F32", [0, 4], 11, 11)}
    values = struct.pack("<2f", 1.5, -2.0)
    (tmp_path / "net").write_bytes(file_of(header, b"abc" + values))
    weights = checkpoint.read(tmp_path / "net").weights()
    assert weights["b"].tolist() == [1.5, -2.0]
    assert weights["a"].tolist() == [97, 98, 99]
    assert weights["c"].shape == (0, 4)
