"""The decorator marks a class and changes nothing else."""

from typing import Any

import pytest

import samovar
from samovar.errors import ConfigError
from samovar.model import declaration_of, snake_case
from samovar.types import check_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("LprNet", "lpr_net"),
        ("HTTPModel", "http_model"),
        ("Stn", "stn"),
        ("ResNet50", "res_net50"),
        ("Yolo8Nano", "yolo8_nano"),
        ("BERT", "bert"),
        ("already_snake", "already_snake"),
    ],
)
def test_class_names_become_snake_case(name: str, expected: str) -> None:
    assert snake_case(name) == expected


def test_the_plain_method_stays_the_plain_method() -> None:
    @samovar.model(max_batch_size=4)
    class Double:
        def predict(self, x: int) -> int:
            return 2 * x

    class Heir(Double):
        pass

    assert Double().predict(3) == 6
    declaration = declaration_of(Double)
    assert declaration is not None
    assert (declaration.name, declaration.version, declaration.options) == ("double", "1", {"max_batch_size": 4})
    assert declaration_of(Heir) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"max_bach_size": 3},
            'unknown setting "max_bach_size" in @samovar.model of class M; did you mean "max_batch_size"?',
        ),
        (
            {"instances": 0},
            'setting "instances" in @samovar.model of class M is 0; it wants a whole number >= 1 and <= 1024',
        ),
        (
            {"instances": True},
            'setting "instances" in @samovar.model of class M is True; it wants a whole number >= 1 and <= 1024',
        ),
        (
            {"max_queue_delay_ms": "soon"},
            'setting "max_queue_delay_ms" in @samovar.model of class M is \'soon\'; it wants a number >= 0 or "auto"',
        ),
        (
            {"name": "docs"},
            (
                "model name 'docs' is reserved for a path of the engine (in @samovar.model of class M); choose "
                "another with @samovar.model(name=...)"
            ),
        ),
        (
            {"name": "../etc"},
            (
                "model name '../etc' has other characters than letters, digits, '.', '_', '-', or is too long (in "
                "@samovar.model of class M); choose another with @samovar.model(name=...)"
            ),
        ),
        (
            {"version": 1.5},
            (
                "the version name is 1.5, no text (in @samovar.model of class M); choose another with "
                "@samovar.model(version=...)"
            ),
        ),
    ],
)
def test_an_option_that_does_not_fit_is_refused_at_the_decorator(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        samovar.model(**options)(type("M", (), {}))
    assert str(caught.value) == message


def test_only_classes_are_models() -> None:
    with pytest.raises(ConfigError, match="put it above a class that has a predict method"):
        samovar.model(len)  # type: ignore[call-overload] # the mistake


@pytest.mark.parametrize(
    "name", ["v1", "v2", "metrics", "docs", "openapi.json", "health", "ping", "models", "predictions", "stats"]
)
def test_names_of_paths_are_reserved_for_models_only(name: str) -> None:
    assert check_name("model", name) is not None
    assert check_name("version", name) is None


@pytest.mark.parametrize("name", ["", ".hidden", "-x", "a b", "a/b", "é", "a" * 256, "a\n"])
def test_names_that_no_path_may_have(name: str) -> None:
    assert check_name("model", name) is not None


def test_the_longest_name_fits() -> None:
    assert check_name("model", "a" * 255) is None
