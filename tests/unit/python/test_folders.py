"""A repository: `<model>/<version>/model.*`, and what is wrong with one."""

import os
from pathlib import Path

import pytest

from samovar.errors import TargetError
from samovar.repository import folders
from samovar.repository.sources import Source, all_sources, folder_sources
from samovar.repository.targets import Target, parse_target


def lay_out(root: Path, *files: str) -> Path:
    """Make files, and folders where a name ends with a slash."""
    for name in files:
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    return root


def sources(root: Path) -> list[Source]:
    return all_sources([parse_target(str(root))])


def found(root: Path) -> dict[tuple[str, str], str]:
    """Paths and faults by model and version."""
    return {source.key: str(source.fault or source.path.relative_to(root)) for source in sources(root)}


def test_every_version_of_every_model_is_found(tmp_path: Path) -> None:
    lay_out(tmp_path, "stn/1/model.py", "stn/10/model.py", "lprnet/blue/model.py", "flat/model.py", "flat/labels.txt")
    assert found(tmp_path) == {
        ("flat", "1"): "flat/model.py",
        ("lprnet", "blue"): "lprnet/blue/model.py",
        ("stn", "1"): "stn/1/model.py",
        ("stn", "10"): "stn/10/model.py",
    }


def test_what_is_no_model_is_left_alone(tmp_path: Path) -> None:
    lay_out(tmp_path, "stn/1/model.py", "stn/assets/labels.txt", "stn/.old/model.py", "stn/__pycache__/model.py")
    lay_out(tmp_path, ".git/1/model.py", "_old/1/model.py", "docs/readme.md", "README.md", "new/")
    assert found(tmp_path) == {("stn", "1"): "stn/1/model.py"}


def test_one_model_of_a_repository_can_be_the_target(tmp_path: Path) -> None:
    lay_out(tmp_path, "stn/1/model.py", "stn/blue/model.py", "lprnet/1/model.py")
    assert found(tmp_path / "stn") == {("stn", "1"): "1/model.py", ("stn", "blue"): "blue/model.py"}


def test_folders_without_version_numbers_are_models_with_one_version(tmp_path: Path) -> None:
    lay_out(tmp_path, "stn/model.py", "lprnet/model.py")
    assert set(found(tmp_path)) == {("stn", "1"), ("lprnet", "1")}


def test_a_model_that_cannot_be_served_has_a_fault_and_the_others_are_found(tmp_path: Path) -> None:
    lay_out(tmp_path, "good/1/model.py", "bare/1/", "bare/2/model.py", "twice/1/model.py", "none/samovar.toml")
    lay_out(tmp_path, "a b/1/model.py", "odd/v 1/model.py", "triton/config.pbtxt")
    names = "has other characters than letters, digits, '.', '_', '-', or is too long"
    assert found(tmp_path) == {
        ("good", "1"): "good/1/model.py",
        ("twice", "1"): "twice/1/model.py",
        ("bare", "2"): "bare/2/model.py",
        ("bare", "1"): f'version folder "{tmp_path}/bare/1" has no model file; '
        "put a model file there, model.onnx for instance",
        ("none", "1"): f'model folder "{tmp_path}/none" has no version; '
        'make "1" in it and put a model file there, model.onnx for instance',
        ("triton", "1"): f'model folder "{tmp_path}/triton" has no version; '
        'make "1" in it and put a model file there, model.onnx for instance',
        ("a_b", "1"): f"model name 'a b' {names} (folder \"{tmp_path}/a b\"); rename the folder",
        ("odd", "v_1"): f"version name 'v 1' {names} (folder \"{tmp_path}/odd/v 1\"); rename it",
    }


def test_a_model_file_under_another_name_is_told(tmp_path: Path) -> None:
    lay_out(tmp_path, "stn/1/best.onnx", "lprnet/lprnet.onnx", "weights/resnet.pt", "code/train.py")
    assert found(tmp_path) == {
        ("stn", "1"): f'version folder "{tmp_path}/stn/1" has no model file; rename best.onnx to model.onnx',
        ("lprnet", "1"): f'model folder "{tmp_path}/lprnet" has no version; rename lprnet.onnx to model.onnx',
    }


def test_two_model_files_in_a_version_are_told_and_files_beside_one_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "_is_known", lambda file: file.suffix in (".py", ".onnx"))
    lay_out(tmp_path, "two/1/model.py", "two/1/model.onnx", "one/1/model.onnx", "one/1/model.onnx.data")
    assert found(tmp_path) == {
        ("one", "1"): "one/1/model.onnx",
        ("two", "1"): f'"{tmp_path}/two/1" has two model files: model.onnx and model.py; leave one of them',
    }


def test_beside_the_keys_of_a_model_its_file_may_have_any_name(tmp_path: Path) -> None:
    lay_out(tmp_path, "cat/net.onnx", "cat/labels.txt", "cat/help.py", "two/a.onnx", "two/b.onnx", "of/x.onnx")
    for folder in ("cat", "two"):
        (tmp_path / folder / "samovar.toml").write_text("instances = 2")
    (tmp_path / "of" / "samovar.toml").write_text("http_port = 9000")
    assert found(tmp_path / "cat") == {("cat", "1"): "net.onnx"}
    assert found(tmp_path)["cat", "1"] == "cat/net.onnx"
    assert "has two model files: a.onnx and b.onnx" in found(tmp_path)["two", "1"]
    assert "rename x.onnx to model.onnx" in found(tmp_path)["of", "1"]


def test_links_to_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    lay_out(tmp_path, "store/7/model.py", "repo/")
    repo = tmp_path / "repo"
    (repo / "stn").symlink_to(tmp_path / "store")
    (repo / "loop").symlink_to(repo)
    (repo / "self").symlink_to("self")
    (repo / "dangling").symlink_to("nowhere")
    assert ("stn", "7") in found(repo)
    assert {key[0] for key in found(repo)} <= {"stn", "loop"}


def test_a_pipe_is_no_model_file(tmp_path: Path) -> None:
    lay_out(tmp_path, "stn/1/")
    os.mkfifo(tmp_path / "stn/1/model.py")
    assert "has no model file" in found(tmp_path)["stn", "1"]


def test_a_name_is_looked_up_and_never_a_path(tmp_path: Path) -> None:
    lay_out(tmp_path, "repo/stn/1/model.py", "outside/1/model.py")
    target = parse_target(str(tmp_path / "repo"))
    for name in ("../outside", "stn/1", ".", "..", "", "/", str(tmp_path / "outside"), "stn\0"):
        assert folder_sources([target], name) == []
    assert len(folder_sources([target], "stn")) == 1


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r'^folder ".*/gone" cannot be read: No such file or directory$'):
        all_sources([Target(tmp_path / "gone", kind="repository")])
    (source,) = all_sources([Target(tmp_path / "gone", kind="model")])
    assert "cannot be read" in str(source.fault)


def test_the_stamp_of_a_version_changes_with_its_files(tmp_path: Path) -> None:
    lay_out(tmp_path, "stn/1/model.py", "stn/1/weights.bin", "stn/2/model.py", "stn/1/__pycache__/model.pyc")

    def stamps() -> dict[str, folders.Stamp]:
        return {source.key[1]: source.stamp for source in sources(tmp_path)}

    before = stamps()
    (tmp_path / "stn/1/__pycache__/model.pyc").write_text("new")
    assert stamps() == before
    (tmp_path / "stn/1/weights.bin").write_text("new")
    assert stamps()["1"] != before["1"]
    assert stamps()["2"] == before["2"]
    between = stamps()
    (tmp_path / "stn/samovar.toml").touch()
    assert all(stamps()[version] != between[version] for version in ("1", "2"))


def test_an_empty_folder_is_told_how_it_is_filled(tmp_path: Path) -> None:
    repo = lay_out(tmp_path, "repo/notes.txt") / "repo"
    layout = "put the file of a model there as repo/NAME/1/model.onnx, for instance"
    assert str(folders.empty_repository(repo)) == f'folder "{repo}" has no models; {layout}'
    lay_out(repo, "b.py", "a.py")
    assert str(folders.empty_repository(repo)) == (
        f'folder "{repo}" has no model folders; {layout}, or serve its files: a.py ...'
    )
