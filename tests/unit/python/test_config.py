"""Settings: flag > environment > samovar.toml > decorator > default, and what is told when one does not fit."""

from pathlib import Path
from typing import Any

import pytest

from samovar.config import Configuration, ModelConfig, ServerConfig, configure, machine
from samovar.errors import ConfigError


def settings(folder: Path, environment: dict[str, str] | None = None, **flags: Any) -> ServerConfig:
    return configure(flags, environment or {}, folder=folder).server


def test_the_upper_layer_wins(tmp_path: Path) -> None:
    assert settings(tmp_path).max_requests == 4_096
    (tmp_path / "samovar.toml").write_text("max_requests = 1\n")
    assert settings(tmp_path).max_requests == 1
    assert settings(tmp_path, {"SAMOVAR_MAX_REQUESTS": "2"}).max_requests == 2
    assert settings(tmp_path, {"SAMOVAR_MAX_REQUESTS": "2"}, max_requests="3").max_requests == 3
    assert settings(tmp_path, {"SAMOVAR_MAX_REQUESTS": "2"}, max_requests=None).max_requests == 2


def test_another_file_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "samovar.toml").write_text("max_requests = 1\n")
    (tmp_path / "other.toml").write_text("max_requests = 7\n")
    assert configure({}, {}, config="other.toml", folder=tmp_path).server.max_requests == 7
    assert configure({}, {"SAMOVAR_CONFIG": "other.toml"}, folder=tmp_path).server.max_requests == 7
    with pytest.raises(ConfigError, match=r'^configuration file "none.toml" does not exist$'):
        configure({}, {}, config="none.toml", folder=tmp_path)


def test_every_kind_of_value_is_read_from_the_environment(tmp_path: Path) -> None:
    environment = {
        "SAMOVAR_ACCESS_LOG": "false",
        "SAMOVAR_DRAIN_TIMEOUT_S": "1.5",
        "SAMOVAR_ALLOWED_ORIGINS": "https://a.example, https://b.example",
        "SAMOVAR_TRANSPORT": "inline",
        "SAMOVAR_READY_FILE": "/run/ready",
        "SAMOVAR_HOST": "",
    }
    found = settings(tmp_path, environment)
    assert not found.access_log
    assert found.drain_timeout_s == 1.5
    assert found.allowed_origins == ("https://a.example", "https://b.example")
    assert (found.transport, found.ready_file, found.host) == ("inline", "/run/ready", "127.0.0.1")


def test_variables_that_kubernetes_sets_for_a_service_named_samovar_are_left_alone(tmp_path: Path) -> None:
    names = ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_8000_TCP", "PORT_8000_TCP_ADDR")
    settings(tmp_path, {f"SAMOVAR_{name}": "tcp://10.0.0.1:8000" for name in names})


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"SAMOVAR_HTTP_POTR": "1"},
            'unknown environment variable "SAMOVAR_HTTP_POTR"; did you mean "SAMOVAR_HTTP_PORT"?',
        ),
        (
            {"SAMOVAR_HTTP_PORT": "65536"},
            "environment variable SAMOVAR_HTTP_PORT is '65536'; it wants a whole number >= 0 and <= 65535",
        ),
        (
            {"SAMOVAR_CONTROL": "all"},
            'environment variable SAMOVAR_CONTROL is \'all\'; it wants "none" or "explicit"',
        ),
        (
            {"SAMOVAR_DRAIN_TIMEOUT_S": "inf"},
            "environment variable SAMOVAR_DRAIN_TIMEOUT_S is 'inf'; it wants a number >= 0",
        ),
        (
            {"SAMOVAR_ACCESS_LOG": "maybe"},
            "environment variable SAMOVAR_ACCESS_LOG is 'maybe'; it wants true or false",
        ),
    ],
)
def test_a_bad_variable_is_named(tmp_path: Path, environment: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(tmp_path, environment)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("max_request = 1", 'unknown setting "max_request" in samovar.toml; did you mean "max_requests"?'),
        ("max_requests = true", 'setting "max_requests" in samovar.toml is True; it wants a whole number >= 1'),
        ("[model.stn]", 'unknown setting "model" in samovar.toml; did you mean "models"?'),
        (
            "instances = 2\nmax_requests = 1",
            (
                'setting "instances" in samovar.toml is one of a model, not of the engine; '
                "write it below [models.<name>] in samovar.toml"
            ),
        ),
        ('host = ""', "setting \"host\" in samovar.toml is ''; it wants a text"),
        ("allowed_hosts = [1]", 'setting "allowed_hosts" in samovar.toml is [1]; it wants a list of texts'),
        ("models = 3", '"models" in {file} is no table; write [models.<name>] and the options of that model below'),
        (
            "[models.stn]\ninstance = 2",
            'unknown setting "instance" of [models.stn] in {file}; did you mean "instances"?',
        ),
        ("[models.v2]", "model name 'v2' is reserved for a path of the engine (in {file})"),
    ],
)
def test_a_bad_line_of_the_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "samovar.toml"
    file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        settings(tmp_path)
    assert str(caught.value) == message.format(file=file)


def test_a_broken_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "samovar.toml").write_text("= 1")
    with pytest.raises(ConfigError, match="is no TOML: Invalid statement"):
        settings(tmp_path)


def test_the_file_overrides_the_decorator(tmp_path: Path) -> None:
    (tmp_path / "samovar.toml").write_text("[models.stn]\nmax_batch_size = 8\nmax_queue_delay_ms = 2\n")
    configuration = configure({}, {}, folder=tmp_path)
    options = configuration.model_options("stn", {"max_batch_size": 4, "instances": 2}, batch_axis=True)
    assert (options["max_batch_size"], options["instances"], options["max_queue_delay_ms"]) == (8, 2, 2.0)
    assert configuration.model_options("other", {"max_batch_size": 4}, batch_axis=True)["max_batch_size"] == 4


def test_the_default_batch_depends_on_the_axis() -> None:
    configuration = Configuration(ServerConfig())
    assert configuration.model_options("m", {}, batch_axis=True) == {
        "max_batch_size": 64,
        "max_queue_delay_ms": None,
        "instances": 1,
        "worker": "own",
        "threads": machine.cpus(),
        "concurrency": 1,
        "idempotent": True,
        "batch_errors": "isolated",
        "writable_inputs": False,
        "warm_up": None,
        "load_timeout_s": 120.0,
        "request_timeout_s": 30.0,
        "max_request_timeout_s": None,
        "hard_kill_after_s": None,
        "max_memory_bytes": None,
        "max_queue_items": 2_048,
        "max_queue_bytes": 256 << 20,
    }
    assert configuration.model_options("m", {}, batch_axis=False)["max_batch_size"] == 1
    assert configuration.model_options("m", {"instances": 1_000}, batch_axis=True)["threads"] == 1
    with pytest.raises(ConfigError, match=r'^model "m" has max_batch_size = 2 but no batch axis; name the first axis'):
        configuration.model_options("m", {"max_batch_size": 2}, batch_axis=False)


def test_a_limit_of_memory_wants_a_worker_of_its_own() -> None:
    limited = {"max_memory_bytes": 1 << 30}
    assert Configuration(ServerConfig()).model_options("m", limited, batch_axis=True)["max_memory_bytes"] == 1 << 30
    for server, declared in (ServerConfig(), {"worker": "a"}), (ServerConfig(default_worker="shared"), {}):
        with pytest.raises(
            ConfigError, match=r"^model \"m\" has max_memory_bytes = \d+, but shares its worker \(\".*\"\)"
        ):
            Configuration(server).model_options("m", {**limited, **declared}, batch_axis=True)


def test_a_worker_is_the_models_own_unless_somebody_names_another() -> None:
    def worker(default: str, said: str | None, obstacle: str | None = None) -> tuple[str, int]:
        configuration = Configuration(ServerConfig(default_worker=default))
        declared = {} if said is None else {"worker": said}
        options = configuration.model_options("m", declared, batch_axis=True, obstacle=obstacle)
        return options["worker"], options["threads"]

    own, one_thread = machine.cpus(), 1
    assert worker("own", None) == ("own", own)
    assert worker("shared", None) == ("shared", one_thread)
    assert worker("shared", "ranking") == ("ranking", one_thread)
    assert worker("shared", "own") == ("own", own)
    assert worker("shared", None, "it streams") == ("own", own)
    assert worker("shared", "own", "it streams") == ("own", own)
    with pytest.raises(
        ConfigError, match=r'^model "m" has worker = "ranking", but it streams; a shared worker runs one'
    ):
        worker("own", "ranking", "it streams")


def test_the_name_of_a_worker_is_checked_like_a_models(tmp_path: Path) -> None:
    (tmp_path / "samovar.toml").write_text('[models.m]\nworker = "a/b"')
    with pytest.raises(ConfigError, match=r"^setting \"worker\" of .* is 'a/b'; it wants a name of letters"):
        configure({}, {}, folder=tmp_path)
    with pytest.raises(
        ConfigError, match=r"^environment variable SAMOVAR_DEFAULT_WORKER is 'two words'; it wants a name"
    ):
        configure({}, {"SAMOVAR_DEFAULT_WORKER": "two words"})
    assert configure({}, {"SAMOVAR_DEFAULT_WORKER": "ranking"}).server.default_worker == "ranking"


@pytest.mark.parametrize(
    ("host", "exposed"),
    [
        ("127.0.0.1", "message"),
        ("127.8.0.1", "message"),
        ("::1", "message"),
        ("localhost", "message"),
        ("unix:/run/s.sock", "message"),
        ("0.0.0.0", "id"),
        ("::", "id"),
        ("example.org", "id"),
    ],
)
def test_exceptions_are_shown_on_loopback_addresses_alone(host: str, exposed: str) -> None:
    assert ServerConfig(host=host).to_engine()["expose_errors"] == exposed
    assert ServerConfig(host=host, expose_errors="id").to_engine()["expose_errors"] == "id"


def test_what_the_engine_gets_is_decided() -> None:
    decided = ServerConfig().to_engine()
    assert decided["log_format"] in ("text", "json")
    assert decided["worker_command"][-3:] == ["-m", "samovar", "worker"]
    assert "ready_file" not in decided
    assert decided["engine_threads"] >= 1
    assert decided["max_bodies_bytes"] >= 1


def test_every_option_has_help() -> None:
    for config in (ServerConfig, ModelConfig):
        for name, option in config.__dataclass_fields__.items():
            assert option.metadata["help"], name


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [("127.0.0.1", True), ("::1", True), ("[::1]", True), ("localhost", True), ("unix:/s", True), ("0.0.0.0", False)],
)
def test_what_only_this_machine_reaches_is_loopback(host: str, is_loopback: bool) -> None:
    assert ServerConfig(host=host).is_loopback is is_loopback
