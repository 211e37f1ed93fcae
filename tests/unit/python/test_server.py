"""What is handed to the engine process, and what `samovar.Server` refuses before it starts one."""

import os
import sys
from pathlib import Path

import pytest

import samovar
from samovar.config import Configuration, ServerConfig
from samovar.config.declared import Declared
from samovar.errors import ConfigError, ServerError, TargetError
from samovar.repository.targets import Target
from samovar.server.engine import _bind_error
from samovar.server.facade import _target_of
from samovar.server.handover import Handover, environment, leave_environment


@samovar.model
class Top:
    """A class at the top of a file."""


def test_what_is_handed_over_arrives_whole() -> None:
    settings = ServerConfig(http_port=0, allowed_hosts=("a", "b"), ready_file="/run/ready")
    handover = Handover(
        [Target(Path("/a:b.py")), Target(Path("/a.py"), "Stn"), Target(Path("/m"), kind="repository")],
        Configuration(settings, {"stn": Declared({"instances": 2}, batch_axis=True)}, Path("/etc/samovar.toml")),
        8,
        9,
    )
    assert Handover.read(handover.write()) == handover


@pytest.mark.parametrize("given", [None, "glibc.malloc.check=1", "glibc.malloc.tcache_count=3"])
def test_the_engine_alone_has_the_environment_of_its_allocator(
    monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if given is not None:
        monkeypatch.setenv("GLIBC_TUNABLES", given)
    of_engine = environment()["GLIBC_TUNABLES"]
    assert of_engine.startswith(given or "glibc.malloc.tcache_count=")
    assert of_engine.count("glibc.malloc.tcache_count=") == 1
    assert os.environ.get("GLIBC_TUNABLES") == given
    monkeypatch.setenv("GLIBC_TUNABLES", of_engine)
    leave_environment()
    assert os.environ.get("GLIBC_TUNABLES") == given


def test_a_class_is_found_by_its_file() -> None:
    assert _target_of(Top) == Target(Path(__file__), "Top")


def test_a_class_that_no_worker_can_import_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Inner:
        pass

    with pytest.raises(TargetError, match="is not at the top of its module; move it there"):
        _target_of(Inner)
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    with pytest.raises(TargetError, match=r"class Cell is defined in no file .* write it to a .py file"):
        _target_of(type("Cell", (), {"__module__": "__main__"}))


def test_mistakes_are_told_before_a_process_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TargetError, match="there is nothing to serve"):
        samovar.Server()
    with pytest.raises(ConfigError, match='unknown setting "http_prot" as an option; did you mean "http_port"'):
        samovar.Server(Top, http_prot=3)
    with pytest.raises(TargetError, match="does not exist"):
        samovar.Server("nothing.py")
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "samovar", "worker"])
    with pytest.raises(ServerError, match='put it under if __name__ == "__main__":'):
        samovar.Server(Top)


def test_what_cannot_be_bound_is_named_with_its_cure() -> None:
    fault = OSError(98, "Address already in use")
    assert str(_bind_error(ServerConfig(), fault)) == (
        "cannot bind 127.0.0.1, port 8000: Address already in use; "
        "choose another --host or --http-port (0 picks a free port)"
    )
    fault.filename = "grpc"
    assert str(_bind_error(ServerConfig(), fault)) == (
        "cannot bind 127.0.0.1, port 8001: Address already in use; "
        "choose another --host or --grpc-port (0 picks a free port)"
    )
    assert str(_bind_error(ServerConfig(host="unix:/run/s"), fault)) == (
        "cannot bind unix:/run/s: Address already in use; choose another path with --host unix:/path"
    )
    unknown = OSError(-2, "Name or service not known")
    for host in ("127.0.0.1:9000", "[::1]:9000", "http://localhost"):
        assert str(_bind_error(ServerConfig(host=host), unknown)) == (
            f"cannot bind {host}: Name or service not known; --host takes an address alone; the port is --http-port"
        )
    assert "choose another --host" in str(_bind_error(ServerConfig(host="::1"), unknown))
