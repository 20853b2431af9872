from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramcli.cache import shard
from gramcli.cache.shard import Shard
from gramcli.errors import ArtefactError, DamagedError, GramcliError, UnsafeError
from tests.support.damage import flips, truncations, zeroed

PATH = Path("00017.h5")
KEYS = tuple(hashlib.sha256(str(n).encode()).hexdigest() for n in range(3))
AWKWARD = (".", "..", "a/b", "/", "%", "%2F", "%2E", "layer1.0.relu#1", ":relu", "a b", "é", "./x", "a%2Fb", "key")


def decode(content, path, fingerprint, layers, **kind) -> Shard:
    """Checks and reads a shard, as a view does the first time."""
    shard.check(content, path)
    rows = shard.decode(content, path, fingerprint, layers, **kind)
    shard.require_finite(rows, path, layers)
    return rows


def small(outputs: int = 2, layers: tuple[str, ...] = ("relu", "layer1.0.relu#1")) -> Shard:
    """Returns a shard of three clips, the second of which failed."""
    rng = np.random.default_rng(7)
    logits = rng.normal(size=(3, outputs)).astype(np.float32)
    rows = {layer: rng.normal(size=(3, k + 1)).astype(np.float32) for k, layer in enumerate(layers)}
    for array in (logits, *rows.values()):
        array[1] = np.nan
    rows[layers[0]][0] = 0
    return Shard(KEYS, ("ok", "decoder crashed (signal 11)", "ok"), logits, rows)


def channels(rows: Shard) -> dict[str, int]:
    return {layer: values.shape[1] for layer, values in rows.descriptors.items()}


def there_and_back(rows: Shard) -> Shard:
    return decode(shard.encode(rows, "f"), PATH, "f", channels(rows))


def assert_same(one: Shard, other: Shard) -> None:
    assert (one.keys, one.status, list(one.descriptors)) == (other.keys, other.status, list(other.descriptors))
    for left, right in zip((one.logits, *one.descriptors.values()), (other.logits, *other.descriptors.values())):  # noqa: B905
        assert left.dtype == right.dtype == np.float32
        assert left.shape == right.shape
        assert left.tobytes() == right.tobytes()


@pytest.mark.parametrize("outputs", [0, 2])
def test_a_shard_is_read_back_bit_for_bit(outputs):
    rows = small(outputs, AWKWARD)
    back = there_and_back(rows)
    assert_same(back, rows)
    assert back.usable().tolist() == [True, False, True]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), unique=True))
def test_any_layer_name_is_read_back(names):
    rows = Shard(KEYS[:1], ("ok",), np.ones((1, 1), np.float32), {n: np.ones((1, 1), np.float32) for n in names})
    assert_same(there_and_back(rows), rows)


def test_special_floats_and_empty_shards_are_read_back():
    odd = np.array([[-0.0, 1e-45, 3.4e38, -3.4e38, 3.4e38]], np.float32)
    assert_same(there_and_back(rows := Shard(KEYS[:1], ("ok",), odd, {"a": odd})), rows)
    assert_same(there_and_back(rows := Shard((), (), odd[:0], {"a": odd[:0]})), rows)


def test_channel_means_are_read_on_request_and_do_not_change_shards_without_them():
    rows = small()
    both = replace(rows, means={layer: values * 2 for layer, values in rows.descriptors.items()})
    content = shard.encode(both, "f")
    back = decode(content, PATH, "f", {"relu": 1}, with_means=True)
    assert list(back.means) == ["relu"]
    np.testing.assert_array_equal(back.means["relu"], both.means["relu"])
    assert decode(content, PATH, "f", channels(rows)).means == {}
    assert shard.encode(replace(both, means={}), "f") == shard.encode(rows, "f")
    with pytest.raises(ValueError, match="a shard of 3 keys has"):
        replace(rows, means={"relu": np.zeros((2, 1), np.float32)})


def test_missing_channel_means_are_refused():
    with pytest.raises(DamagedError, match="does not have the layout of a shard"):
        decode(shard.encode(small(), "f"), PATH, "f", {"relu": 1}, with_means=True)


def test_only_the_layers_asked_for_are_read_in_that_order():
    rows = small(layers=("a", "b", "c"))
    got = decode(shard.encode(rows, "f"), PATH, "f", {"c": 3, "a": 1})
    assert list(got.descriptors) == ["c", "a"]
    assert decode(shard.encode(rows, "f"), PATH, "f", {}).descriptors == {}


@pytest.mark.parametrize("text", ["нет звука", "a\nb", "\udcff.wav", "é" * 150, "x" * 1000, "a" + "音" * 100])
def test_a_long_status_keeps_whole_characters_of_its_beginning(text):
    failed = np.full((1, 1), np.nan, np.float32)
    (status,) = there_and_back(Shard(KEYS[:1], (text,), failed, {"a": failed})).status
    wanted = text.encode("utf-8", "backslashreplace").decode()
    assert wanted.startswith(status)
    assert len(status.encode()) >= min(198, len(wanted.encode()))


def test_equal_rows_give_equal_bytes_in_another_process_at_another_time():
    code = (
        "import sys; from gramcli.cache import shard; from tests.cache.test_shard import small;"
        "sys.stdout.buffer.write(shard.encode(small(), 'f'))"
    )
    content = shard.encode(small(), "f")
    time.sleep(1.1)  # a time stamp would be in whole seconds
    root = Path(__file__).parents[2]
    other = subprocess.run([sys.executable, "-c", code], cwd=root, env={"PYTHONHASHSEED": "5"}, capture_output=True)
    assert other.stdout == content, other.stderr


def test_any_hdf5_reader_opens_it(tmp_path):
    (tmp_path / "x.h5").write_bytes(shard.encode(small(), "f"))
    with h5py.File(tmp_path / "x.h5") as file:
        assert set(file) == {"descriptors", "logits", "key", "status"}
        assert (file.attrs["fingerprint"], file.attrs["gramcli_format"]) == (b"f", 1)
        np.testing.assert_array_equal(file["descriptors/layer1.0.relu#1"], small().descriptors["layer1.0.relu#1"])


def test_rows_must_agree():
    with pytest.raises(ValueError, match="a shard of 3 keys"):
        Shard(KEYS, ("ok",), np.zeros((3, 1), np.float32), {})


@pytest.mark.parametrize("rot", [flips, truncations, lambda content: zeroed(content, 64)])
def test_every_changed_byte_and_every_truncation_is_noticed(rot):
    content = shard.encode(small(), "f")
    count = 0
    for count, changed in enumerate(rot(content), 1):  # noqa: B007
        with pytest.raises(DamagedError, match=r"^00017\.h5: is damaged"):
            decode(changed, PATH, "f", {"relu": 1})
    assert count >= len(content) // 64 // 2


def test_a_changed_number_and_exchanged_rows_are_noticed():
    rows = small(layers=("a",) * 1)
    rows.descriptors["a"][:] = [[1], [0], [2]]
    content = shard.encode(rows, "f")
    data = rows.descriptors["a"].tobytes()
    assert content.count(data) == 1
    for changed in (data.replace(bytes(4), b"\xff" * 4), data[8:] + data[4:8] + data[:4]):
        with pytest.raises(DamagedError, match="is damaged"):
            decode(content.replace(data, changed), PATH, "f", {"a": 1})
    with pytest.raises(DamagedError, match="is damaged"):
        decode(content + b"\0", PATH, "f", {"a": 1})


# --- forged files: the digest is right, the content is not -----------------------------------------------------------


def sealed(image: bytes) -> bytes:
    digest = hashlib.sha256(image[512:]).hexdigest().encode()
    return b"gramcli shard\nsha256 " + digest + b"\n" + image[86:]


def forged(change, **options) -> bytes:
    """Returns a shard with a changed HDF5 content and a right digest."""
    image = io.BytesIO()
    with h5py.File(image, "w", userblock_size=512, **options) as file:
        file.attrs["gramcli_format"], file.attrs["fingerprint"] = 1, np.bytes_(b"f")
        file["descriptors/a"] = np.ones((1, 2), np.float32)
        file["logits"] = np.ones((1, 3), np.float32)
        file["key"] = np.array([KEYS[0].encode()], "S64")
        file["status"] = np.array([b"ok"], "S200")
        change(file)
    return sealed(image.getvalue())


def decode_forged(content: bytes) -> Shard:
    return decode(content, PATH, "f", {"a": 2})


def put(name: str, value):
    """Returns a change that replaces the content under a name."""

    def change(file: h5py.File) -> None:
        del file[name]
        if isinstance(value, dict):
            file.create_dataset(name, **value)
        elif value is not None:
            file[name] = value

    return change


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A file outside the cache that no shard may read from. It is valid HDF5 and valid raw data."""
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a"] = file["logits"] = np.full((1, 3), 42, np.float32)
    return tmp_path / "other.h5"


def test_a_shard_that_is_sealed_again_without_change_is_valid():
    assert decode_forged(forged(lambda file: None)).descriptors["a"].tolist() == [[1, 1]]


@pytest.mark.parametrize("name", ["logits", "descriptors/a", "descriptors", "key"])
@pytest.mark.parametrize("kind", ["soft", "loop", "external", "missing file", "raw", "virtual"])
def test_links_and_external_data_are_not_followed(name, kind, other):
    shape, dtype = {"key": ((1,), "S64"), "descriptors/a": ((1, 2), "f4")}.get(name, ((1, 3), "f4"))
    source = h5py.VirtualSource(str(other), "logits", shape, dtype)
    layout = h5py.VirtualLayout(shape, dtype)
    layout[...] = source
    links = {
        "soft": h5py.SoftLink("/status"),
        "loop": h5py.SoftLink("/" + name),
        "external": h5py.ExternalLink(str(other), "/"),
        "missing file": h5py.ExternalLink("/no/such/file.h5", "/"),
        "raw": {"shape": shape, "dtype": dtype, "external": [(str(other), 0, h5py.h5f.UNLIMITED)]},
    }

    def change(file: h5py.File) -> None:
        put(name, links.get(kind))(file)
        if kind == "virtual":
            file.create_virtual_dataset(name, layout)

    # data sets in place of the group are no links, but no shard either
    expected = DamagedError if name == "descriptors" and kind in ("raw", "virtual") else UnsafeError
    with pytest.raises(expected, match=r"^00017\.h5: "):
        decode_forged(forged(change))


def zip_bomb() -> dict[str, object]:
    return {
        "shape": (1, 2**24),
        "dtype": "f4",
        "chunks": (1, 2**24),
        "compression": "gzip",
        "data": np.zeros((1, 2**24)),
    }


@pytest.mark.parametrize("name", ["logits", "descriptors/a", "key", "status"])
@pytest.mark.parametrize(
    "value",
    [
        None,
        {"data": h5py.Empty("f4")},
        {"shape": (1, 2**40), "dtype": "f4"},
        {"shape": (2**40,), "dtype": "S64"},
        {"data": np.float32(1)},
        {"data": np.ones((2, 2), "f4")},
        {"data": np.ones((1, 2, 1), "f4")},
        {"data": np.ones((1, 2), "f8")},
        {"data": np.ones((1, 2), ">f4")},
        {"data": np.ones((1, 2), "i4")},
        {"data": np.ones((1, 2), "c8")},
        {"data": np.zeros(1, [("x", "f4")])},
        {"data": np.array([b"\xff"], "S64")},
        {"data": np.array(["text"], object), "dtype": h5py.string_dtype()},
        {"shape": (1,), "dtype": h5py.ref_dtype},
        {"shape": (1,), "dtype": h5py.vlen_dtype("f4")},
        {"data": np.ones((1, 2), "f4"), "compression": "gzip"},
        {"shape": (1, 2), "dtype": "f4", "chunks": (1, 2), "maxshape": (None, 2)},
        np.dtype("f4"),
    ],
    ids=str,
)
def test_datasets_of_another_type_or_shape_are_refused(name, value):
    with pytest.raises(DamagedError, match="does not have the layout of a shard"):
        decode_forged(forged(put(name, value)))


def test_wrong_numbers_of_channels_groups_instead_of_datasets_and_zip_bombs_are_refused():
    for change in (
        put("descriptors/a", {"data": np.ones((1, 3), "f4")}),
        put("descriptors", None),
        lambda file: (put("logits", None)(file), file.create_group("logits")),
        put("logits", zip_bomb()),
    ):
        with pytest.raises(DamagedError, match="does not have the layout of a shard"):
            decode_forged(forged(change))


@pytest.mark.parametrize(
    "value",
    [h5py.Empty("f4"), [1, 2], [], ["f", "g"], "f", 1.0, True, 1j, np.void(b"abc"), np.zeros(1, [("x", "f4")])],
    ids=str,
)
def test_malformed_attributes_are_refused(value):
    with pytest.raises(DamagedError, match="does not have the layout"):
        decode_forged(forged(lambda file: file.attrs.__setitem__("gramcli_format", value)))
    with pytest.raises(DamagedError, match="does not have the layout"):
        decode_forged(forged(lambda file: file.attrs.__setitem__("fingerprint", value)))


@pytest.mark.parametrize("name", ["gramcli_format", "fingerprint"])
def test_missing_attributes_are_refused(name):
    with pytest.raises(DamagedError, match="does not have the layout"):
        decode_forged(forged(lambda file: file.attrs.__delitem__(name)))


def test_errors_name_another_view_and_a_newer_format():
    content = shard.encode(small(), "f")
    with pytest.raises(ArtefactError, match=r"00017\.h5: belongs to another view"):
        decode(content, PATH, "g", {})
    for version in (2, 2**63):
        with pytest.raises(ArtefactError, match=rf"made by a newer gramcli \(format {version}\)"):
            decode_forged(forged(lambda file, n=version: file.attrs.__setitem__("gramcli_format", np.uint64(n))))


@pytest.mark.parametrize("image", [b"", bytes(5000), b"\x89HDF\r\n\x1a\n" * 100, b"#!/bin/sh\n" * 200])
def test_other_content_with_a_right_digest_is_refused(image):
    with pytest.raises(DamagedError, match=r"00017\.h5"):
        decode_forged(sealed(bytes(512) + image))


def test_random_changes_with_a_right_digest_raise_only_expected_errors():
    content = shard.encode(small(), "f")
    rng = np.random.default_rng(3)
    outcomes, messages = set(), []
    for _ in range(600):
        changed = bytearray(content)
        for place in rng.integers(512, len(content), rng.integers(1, 4)):
            changed[place] = rng.integers(256)
        try:
            decode(sealed(bytes(changed)), PATH, "f", channels(small()))
            outcomes.add("read")
        except GramcliError as error:
            outcomes.add(type(error).__name__)
            messages.append(str(error))
    assert {"read", "DamagedError"} <= outcomes
    assert not any("\n" in message for message in messages)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["logits", "descriptors"])
def test_a_usable_row_with_a_number_that_is_not_finite_is_refused(name, value):
    rows = small()
    changed = {"logits": rows.logits.copy(), "descriptors": {k: v.copy() for k, v in rows.descriptors.items()}}
    (changed["logits"] if name == "logits" else changed["descriptors"]["layer1.0.relu#1"])[2, 1] = value
    content = shard.encode(replace(rows, **changed), "f")
    with pytest.raises(DamagedError, match=r"00017\.h5: row 2 holds a number that is not finite"):
        decode(content, PATH, "f", channels(rows))
    largest = np.full((3, 4), np.finfo(np.float32).max)
    there_and_back(replace(rows, descriptors={"large": largest}))
