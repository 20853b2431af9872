"""Pickles: what torch.save writes for state dicts is read; no function is called, and nothing takes for ever."""

from __future__ import annotations

import collections
import contextlib
import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gramcli.errors import ArtefactError, GramcliError, UnsafeError
from gramcli.network import checkpoint, pickled_values
from gramcli.network.pickled_tensor import Storage
from tests.support import toys


class Call:
    """What a pickle calls, and the state that it then sets."""

    def __init__(self, function: Any, *args: Any, state: Any = None) -> None:
        self.parts = (function, args) if state is None else (function, args, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.parts


class Numbers:
    """A storage that a pickle names."""

    def __init__(self, key: str = "0", count: int = 16, kind: Any = torch.FloatStorage) -> None:
        self.id = ("storage", kind, key, "cpu", count)


class Pickler(pickle._Pickler):
    """Python's own pickler, whose storages torch takes."""

    old = False

    def persistent_id(self, value: Any) -> Any:
        return ((*value.id, None) if self.old else value.id) if isinstance(value, Numbers) else None


class OldPickler(Pickler):
    old = True


def pickled(value: Any, kind: type[Pickler] = Pickler) -> bytes:
    file = io.BytesIO()
    kind(file, 2).dump(value)
    return file.getvalue()


def tensor(shape: tuple[Any, ...] = (16,), strides: tuple[Any, ...] = (1,), offset: Any = 0, **storage: Any) -> Call:
    return Call(
        torch._utils._rebuild_tensor_v2, Numbers(**storage), offset, shape, strides, False, collections.OrderedDict()
    )


def archive(path: Path, value: Any, stored: Mapping[str, bytes] = {"0": bytes(64)}) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("net/data.pkl", value if isinstance(value, bytes) else pickled(value))
        file.writestr("net/byteorder", "little")
        for key, content in stored.items():
            file.writestr(f"net/data/{key}", content)
    return path


def old_file(path: Path, value: Any, storages: list[tuple[str, int, bytes]]) -> Path:
    parts = [pickle.dumps(one, 2) for one in (torch.serialization.MAGIC_NUMBER, 1001, {"little_endian": True})]
    parts += [pickled(value, OldPickler), pickle.dumps([key for key, *_ in storages], 2)]
    path.write_bytes(b"".join(parts) + b"".join(struct.pack("<q", count) + content for _, count, content in storages))
    return path


def weights(path: Path) -> dict[str, Tensor]:
    return checkpoint.read(path).weights()


def trained(old: bool) -> dict[str, Any]:
    """A checkpoint as training programs write it."""
    network = toys.make(toys.ResNet)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    sum(parameter.sum() for parameter in network.parameters()).backward()
    optimizer.step()
    return {
        "epoch": 3, "global_step": 1 << 40, "loss": [0.1, float("nan"), None, True, False, -1, -(1 << 70)],
        "pytorch-lightning_version": "2.4.0", "loops": {"fit_loop": {"state_dict": {}, "done": (1, (2, (3, 4, 5, 6)))}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5), "äöü": ()}},
        "optimizer_states": [optimizer.state_dict()], "lr_schedulers": [collections.OrderedDict(a=1)],
        "hyper_parameters": {"size": torch.Size([1, 2]), "device": torch.device("cuda", 0), "type": torch.float16},
        "by id": {140_000_000_000_000 + n: n for n in range(500)},
        "state_dict": network.state_dict(), "best": nn.Parameter(torch.ones(2)),
    }  # fmt: skip


@pytest.mark.parametrize("old", [False, True])
def test_checkpoints_of_training_programs(tmp_path: Path, old: bool) -> None:
    content = trained(old)
    torch.save(content, tmp_path / "net.pt", _use_new_zipfile_serialization=not old)
    found = weights(tmp_path / "net.pt")
    assert found.keys() == content["state_dict"].keys()
    assert all(torch.equal(one, content["state_dict"][name]) for name, one in found.items())


TYPES = (
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8, torch.int16, torch.int32, torch.int64,
    torch.uint8, torch.bool, torch.complex64, torch.complex128,
)  # fmt: skip


@pytest.mark.parametrize("old", [False, True])
def test_tensors_of_all_types_and_places(tmp_path: Path, old: bool) -> None:
    whole = torch.arange(24.0).reshape(2, 3, 4)
    state = {str(dtype): torch.arange(6).to(dtype).reshape(2, 3) for dtype in TYPES}
    state |= {
        "whole": whole, "tied": whole, "turned": whole.permute(2, 0, 1), "part": whole[1, 1:, ::2],
        "number": whole[1, 2, 3],
        "channels last": torch.arange(48.0).reshape(1, 3, 4, 4).to(memory_format=torch.channels_last),
        "none": torch.empty(0, 3), "parameter": nn.Parameter(torch.ones(3)), "constant": torch.tensor(7),
    }  # fmt: skip
    torch.save(state, tmp_path / "net.pt", _use_new_zipfile_serialization=not old)
    found = weights(tmp_path / "net.pt")
    assert found.keys() == state.keys()
    for name, one in state.items():
        assert found[name].dtype == one.dtype
        assert torch.equal(found[name], one)
        assert found[name].stride() == one.stride() or not one.numel()
    assert found["whole"].data_ptr() == found["tied"].data_ptr()


def test_items_as_python_2_gave_them(tmp_path: Path) -> None:
    state = Call(collections.OrderedDict, [["a", tensor((2, 8), (8, 1))], ["b", tensor((4,), (1,), 12)]])
    found = weights(archive(tmp_path / "net.pt", state, {"0": struct.pack("<16f", *range(16))}))
    assert found["b"].tolist() == [12, 13, 14, 15]


def repeated(first: bytes, each: bytes, times: int) -> bytes:
    return b"\x80\x02]" + first + each * times + b"."


UNSAFE: dict[str, Any] = {
    "memory as it is": {"w": Call(torch.FloatTensor, 4, 4)},
    "a storage as it is": {"w": Call(torch.FloatStorage, 4)},
    "bytes": {"w": b"abc"},
    "punycode": {"w": Call(__import__("_codecs").encode, "ä" * 100, "punycode")},
    "array": {"w": bytearray(b"abc")},
    "counter": collections.Counter("abc"),
    "set": {"w": {1, 2}},
    "attribute": Call(collections.OrderedDict, state={"items": 3}),
    "attribute of a parameter": {
        "w": Call(torch._utils._rebuild_parameter_with_state, tensor(), False, collections.OrderedDict(), {"detach": 3})
    },
    "attribute of a tensor": {"w": Call(torch._tensor._rebuild_from_type_v2, torch.Tensor, torch.Tensor, (), {})},
    "tuple as a key": {("a",): 1},
    "number as a key": {1.5: 1},
    "endless key": b"\x80\x02X\1\0\0\0aq\0" + b"h\0h\0\x86q\0" * 60 + b"}h\0K\1s.",
    "deep key": b"\x80\x02}" + b")" + b"\x85" * 300_000 + b"K\x01s.",
    "keys that collide": {(n << 61) - n: 1 for n in range(10_002)},
    "object": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
    "call of a text": b"\x80\x02X\1\0\0\0a)R.",
    "call with many arguments": {"w": Call(torch.Size, *range(11))},
}


@pytest.mark.parametrize("value", UNSAFE.values(), ids=UNSAFE.keys())
def test_what_no_state_dict_holds(tmp_path: Path, value: Any) -> None:
    path = archive(tmp_path / "net.pt", value)
    with pytest.raises(UnsafeError, match=r"net\.pt: holds .* and is not loaded: save the state dict anew") as caught:
        weights(path)
    assert "\n" not in str(caught.value)


DAMAGED: dict[str, Any] = {
    "empty": b"",
    "no end": b"\x80\x02}",
    "nothing": b".",
    "a mark": b"\x80\x02(.",
    "no mark": b"\x80\x02}u.",
    "key without value": b"\x80\x02}(K\x01u.",
    "text that is cut": b"\x80\x02X\xff\xff\xff\xff.",
    "protocol 4": pickle.dumps({"a": "b"}, 4),
    "name without end": b"\x80\x02ctorch",
    "what was not remembered": b"\x80\x02h\x09.",
    "a list of a number": b"\x80\x02K\x01K\x01a.",
    "other reference": b"\x80\x02X\1\0\0\0aQ.",
    "one list for many calls": repeated(b"(" + b"]" * 100_000 + b"tq\0", b"ccollections\nOrderedDict\nh\0\x85R", 1000),
    "behind the end": {"w": tensor((17,))},
    "behind the end by offset": {"w": tensor((16,), (1,), 1)},
    "behind the end by strides": {"w": tensor((2,), (16,))},
    "before the start": {"w": tensor((2,), (1,), -1)},
    "negative strides": {"w": tensor((2,), (-1,), 4)},
    "no whole number": {"w": tensor((2.0,))},
    "more than memory": {"w": tensor((1 << 40, 1 << 40), (0, 0))},
    "huge and empty": {"w": tensor((0, 1 << 60), (1, 1))},
    "fewer strides": {"w": tensor((4, 4), (4,))},
    "many dimensions": {"w": tensor((1,) * 65, (1,) * 65)},
    "expanded": {"w": tensor((1 << 40,), (0,))},
    "numbers that are not there": {"w": tensor(key="1")},
    "fewer numbers": {"w": tensor(count=17)},
    "two sizes": {"v": tensor((8,), count=8), "w": tensor()},
    "two types": {"v": tensor((8,), kind=torch.IntStorage), "w": tensor()},
    "other folder": {"w": tensor(key="../byteorder", count=1)},
}


@pytest.mark.parametrize("value", DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_pickles(tmp_path: Path, value: Any) -> None:
    path = archive(tmp_path / "net.pt", value)
    with pytest.raises(ArtefactError, match=r"net\.pt: (is no checkpoint: |w is no dense tensor|holds no w)") as caught:
        weights(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "storages",
    [
        [],
        [("1", 16, bytes(64))],
        [("0", 16, bytes(64)), ("1", 16, bytes(64))],
        [("0", 16, bytes(60))],
        [("0", 8, bytes(32))],
        [("0", -1, bytes(64))],
    ],
)
def test_old_files_that_lack_numbers(tmp_path: Path, storages: list[tuple[str, int, bytes]]) -> None:
    path = old_file(tmp_path / "net.pt", {"w": tensor()}, storages)
    with pytest.raises(ArtefactError, match=r"net\.pt: is no checkpoint: the storage"):
        weights(path)
    right = old_file(tmp_path / "net.pt", {"w": tensor()}, [("0", 16, struct.pack("<16f", *range(16)))])
    assert weights(right)["w"].tolist() == list(range(16))


def test_old_files_whose_storages_are_views(tmp_path: Path) -> None:
    numbers = Numbers()
    numbers.id = (*numbers.id, ("7", 4, 8))
    value = Call(torch._utils._rebuild_tensor, numbers, 1, (3,), (2,))
    parts = [pickle.dumps(one, 2) for one in (torch.serialization.MAGIC_NUMBER, 1001, {})]
    content = b"".join([*parts, pickled({"w": value}), pickle.dumps(["0"], 2)])
    (tmp_path / "net.pt").write_bytes(content + struct.pack("<q16f", 16, *range(16)))
    assert weights(tmp_path / "net.pt")["w"].tolist() == [5, 7, 9]


def test_the_pickle_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickled_values, "LONGEST", 1000)
    with pytest.raises(ArtefactError, match="its pickle exceeds 1000 bytes"):
        weights(archive(tmp_path / "net.pt", {"w": "a" * 2000}))


def test_the_pickle_is_the_only_one(tmp_path: Path) -> None:
    path = archive(tmp_path / "net.pt", {"w": tensor()})
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(
            "net/DATA.PKL", pickled({"w": Call(print, "ran")})
        )  # torch's reader of archives may take this one
    assert weights(path).keys() == {"w"}
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("other/data.pkl", pickled({"w": tensor()}))
    with pytest.raises(ArtefactError, match=r"an archive that torch\.save has not written"):
        weights(path)


def test_a_long_chain_of_state_dicts(tmp_path: Path) -> None:
    content = b"\x80\x02}q\1" + b"".join(b"}q\x02X\5\0\0\0modelh\x01sq\x01" for _ in range(100_000))
    with pytest.raises(ArtefactError, match=r"is no checkpoint|holds no weights"):
        weights(archive(tmp_path / "net.pt", content + b"}h\1."))


def test_bytes_in_the_order_of_another_processor(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "net.pt", "w") as file:
        file.writestr("net/data.pkl", pickled({"w": tensor()}))
        file.writestr("net/byteorder", "big")
        file.writestr("net/data/0", bytes(64))
    with pytest.raises(ArtefactError, match="in the order of another processor"):
        weights(tmp_path / "net.pt")


def test_each_prefix_and_each_changed_byte_of_a_pickle(tmp_path: Path) -> None:
    file = tmp_path / "net.pt"
    torch.save({"a": torch.ones(2), "b": collections.OrderedDict(c=[1, (2, 3)])}, file)
    with zipfile.ZipFile(file) as archived:
        content = next(archived.read(name) for name in archived.namelist() if name.endswith("data.pkl"))
    changed = [content[:n] for n in range(len(content))]
    changed += [
        content[:n] + bytes([code]) + content[n + 1 :] for n in range(len(content)) for code in range(0, 256, 3)
    ]
    for one in changed:
        with contextlib.suppress(GramcliError):
            pickled_values.read(memoryview(one), 0, file, {})
    storages: dict[str, Storage] = {}
    pickled_values.read(memoryview(content), 0, file, storages)
    assert storages == {"0": Storage("0", "float32", 2, 0, 2)}
