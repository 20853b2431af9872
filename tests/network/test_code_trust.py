"""`verdict` and `refusal` of `gramcli.network.code_trust`, as pure functions of names and arguments."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from typing import Any

import pytest

import gramcli
from gramcli.network import code_trust, torch_compat
from gramcli.network.code_trust import Verdict, is_factory_name, verdict
from gramcli.settings.user_network import UserNetwork

BUNDLED = "gramcli.demo.network:small_cnn"
NOBODY = UserNetwork()


def importable_callables() -> list[str]:
    """Returns the names of all callables of gramcli's modules, and of the libraries that are loaded with them."""
    torch_compat.timm()
    for module in pkgutil.walk_packages(gramcli.__path__, "gramcli."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in ("os", "subprocess", "builtins", "runpy", "torch.hub", "pickle", "shutil", "importlib"):
        importlib.import_module(name)
    return sorted(
        f"{name}:{attribute}"
        for name, module in list(sys.modules.items())
        if not name.startswith("tests")
        for attribute, value in list(vars(module).items())
        if callable(value)
    )


def test_no_callable_but_one_may_be_named_by_a_file() -> None:
    names = importable_callables()
    assert len(names) > 5000
    assert BUNDLED in names
    assert {"os:system", "subprocess:run", "builtins:eval", "torch.hub:load"} <= set(names)
    assert [name for name in names if verdict(name, {}, NOBODY) is not Verdict.REFUSED] == [BUNDLED]
    assert [name for name in names if verdict(name, {"in_chans": 1}, UserNetwork("other:make")) is Verdict.NAMED] == []


@pytest.mark.parametrize(
    "arguments",
    [{"width": 0}, {"width": "24"}, {"width": True}, {"width": 2.5}, {"width": 10**9}, {"in_chans": [1]}, {"other": 1}],
)
def test_arguments_of_the_bundled_network(arguments: dict[str, Any]) -> None:
    assert verdict(BUNDLED, {"in_chans": 1, "width": 8}, NOBODY) is Verdict.BUNDLED
    assert verdict(BUNDLED, arguments, NOBODY) is Verdict.REFUSED
    assert verdict(BUNDLED, arguments, UserNetwork(BUNDLED)) is Verdict.NAMED


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("in_chans", 1), ("drop_rate", 0.2), ("global_pool", "avg"), ("depths", [2, 2, 6, 2]), ("img_size", [128, 501]),
        ("dynamic_img_size", True), ("pretrained", False), ("drop_path_rate", None), ("norm_layer", "batchnorm2d"),
    ],
)  # fmt: skip
def test_arguments_of_timm_that_a_file_may_give(key: str, value: Any) -> None:
    assert verdict("resnet18", {key: value}, NOBODY) is Verdict.TIMM


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("pretrained", True), ("pretrained", 1), ("pretrained", "false"), ("pretrained", 0),
        ("pretrained_cfg", {"url": "http://x"}), ("pretrained_cfg", "x"), ("pretrained_cfg_overlay", {"file": "/x"}),
        ("checkpoint_path", "/x"), ("cache_dir", "/x"), ("pretrained_strict", False), ("features_only", True),
        ("kwargs_filter", ["x"]), ("pruned", True), ("scriptable", True), ("device", "cuda"), ("dtype", "float16"),
        ("block_args", [["ir_r1"]]), ("model_cfg", {}), ("drop_rate", "0.1"), ("drop_rate", {"a": 1}),
        ("drop_rate", float("inf")), ("drop_rate", float("nan")), ("in_chans", 10**400), ("depths", [2] * 65),
        ("depths", [[2]]), ("depths", ["2"]), ("global_pool", "../x"), ("global_pool", "x" * 33), ("act_layer", "a.b"),
        ("unknown", 1), ("__class__", 1),
    ],
)  # fmt: skip
def test_arguments_of_timm_that_a_file_may_not_give(key: str, value: Any) -> None:
    assert verdict("resnet18", {key: value}, NOBODY) is Verdict.REFUSED
    assert verdict("resnet18", {key: value}, UserNetwork("resnet18")) is Verdict.REFUSED
    assert verdict("resnet18", {key: value}, NOBODY, trusted=True) is Verdict.TRUSTED
    if value == value and value != float("inf"):
        assert verdict("resnet18", {key: value}, UserNetwork("resnet18", {key: value})) is Verdict.TIMM
    with_other = UserNetwork(None, {"other": value})
    error = code_trust.refusal("resnet18", {"in_chans": 1, key: value}, with_other, "gramcli.toml")
    assert str(error).startswith(f"network.args: {key} = ")
    for way in ("--trust-code", "trust_code", "GRAMCLI_NETWORK_ARGS", "(extract, train, layers: --arg; "):
        assert way in str(error), way
    assert "\n" not in str(error)


def test_equal_values_of_other_types_are_not_what_the_user_gave() -> None:
    assert verdict("resnet18", {"pretrained": True}, UserNetwork("resnet18", {"pretrained": 1})) is Verdict.REFUSED


def test_a_refused_argument_that_is_misspelt() -> None:
    for key, found in (("drop_rat", "(did you mean drop_rate?)"), ("checkpoint_path", ""), ("drop_rate", "")):
        error = str(code_trust.refusal("resnet18", {key: {}}, NOBODY, "gramcli.toml"))
        assert found in error
        assert bool(found) == ("did you mean" in error)


def test_a_factory_that_the_user_names_or_trusts() -> None:
    assert verdict("evil:make", {"x": {}}, UserNetwork("evil:make")) is Verdict.NAMED
    assert verdict("evil:make", {}, UserNetwork("evil:other")) is Verdict.REFUSED
    assert verdict("evil:make", {}, NOBODY, trusted=True) is Verdict.TRUSTED
    error = str(code_trust.refusal("evil:make", {}, NOBODY, "gramcli.toml"))
    for way in (
        "--trust-code",
        "trust_code",
        "--network evil:make",
        "GRAMCLI_NETWORK_NAME",
        "from Python network.name",
    ):
        assert way in error, way


@pytest.mark.parametrize(
    "name",
    ["hf-hub:timm/resnet18", "local-dir:/x", ":make", "a:", "a.:b", ".a:b", "a:b.c", "a:b:c", "a:__class__",
     "__main__:x", "a.__init__:x", "a b:c", "../a:b", "a/b:c"],
)  # fmt: skip
def test_names_that_are_no_factory(name: str) -> None:
    assert not is_factory_name(name)
    assert is_factory_name("a.b:make_2")
