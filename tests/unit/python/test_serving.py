"""Services as a worker finds, describes and makes them."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import samovar
from samovar.config.declared import Declared
from samovar.errors import ConfigError, LoadError, TargetError
from samovar.runtimes import Question, runtime_for, runtime_named

Program = Callable[..., Path]

PLATES = """
@samovar.model
class Double:
    def predict(self, x: Float32[np.ndarray, "batch 2"]) -> Float32[np.ndarray, "batch 2"]:
        return x * 2

@samovar.service(instances=2)
class Plates:
    \"\"\"Reads plates.\"\"\"
    double = samovar.use(Double)

    def load(self):
        self.country = "de"

    @samovar.api(path="/plates/{country}/read")
    async def read(self, country: str, image: samovar.Image, limit: int = 3) -> list[str]:
        return [country]

    @samovar.api
    async def twice(self, x: Float32[np.ndarray, "2"]) -> Float32[np.ndarray, "2"]:
        return (await self.double.predict(x[None]))[0]
"""


def described(path: Path, class_name: str | None = None, /, **question: Any) -> dict[str, dict[str, Any]]:
    return {model["name"]: model for model in runtime_for(path).inspect(Question(path, class_name, **question))}


def loaded(model: dict[str, Any]) -> Any:
    source = {**model["source"], "expose_errors": True}
    return runtime_named("service").load({**model, "source": source})


def test_a_service_is_described_beside_the_models_of_its_file(program: Program) -> None:
    path = program(PLATES)
    models = described(path)
    assert list(models) == ["double", "plates"]
    plates = models["plates"]
    assert (plates["runtime"], plates["version"], plates["streams"], plates["batch_axis"]) == (
        "service",
        "1",
        False,
        False,
    )
    assert (plates["inputs"], plates["outputs"]) == ([], [])
    assert plates["options"] == {"idempotent": False, "concurrency": 100, "instances": 2}
    assert plates["imports"] == ["numpy", "fastapi"]
    assert [route["path"] for route in plates["service"]["routes"]] == ["/plates/{country}/read", "/plates/twice"]
    assert [method["name"] for method in plates["service"]["methods"]] == ["twice"]
    assert plates["source"]["uses"]["double"]["name"] == "double"
    assert plates["source"]["request"] == {
        "method": "POST",
        "path": "/plates/text/read",
        "fields": {},
        "files": ["image"],
    }


def test_an_application_mounted_by_a_file_is_a_service(program: Program) -> None:
    path = program('async def app(scope, receive, send): ...\nsamovar.mount("/ui", app)\n')
    assert described(path)["ui"]["service"]["mounts"] == ["/ui"]


def test_a_folder_gives_a_service_its_name_and_its_file_what_services_have(program: Program) -> None:
    path = program(PLATES)
    question = {"name": "signs", "version": "4", "declared": Declared({"concurrency": 7})}
    (model,) = described(path, "Plates", **question).values()
    assert (model["name"], model["version"], model["options"]["concurrency"]) == ("signs", "4", 7)
    assert model["service"]["routes"][1]["path"] == "/signs/twice"
    with pytest.raises(
        ConfigError, match=r'^setting "max_batch_size" of service Plates is one of models; a service has'
    ):
        described(path, "Plates", declared=Declared({"max_batch_size": 8}))


def test_a_service_is_made_loaded_and_called(program: Program) -> None:
    service = loaded(described(program(PLATES))["plates"])
    assert (service.is_async, service.streams) == (True, False)
    assert service.start() is None
    import numpy as np

    (twice,) = asyncio.run(service.method("twice")([np.array([1, 2], np.float32)]))
    assert twice.tolist() == [2, 4]
    assert {route.path for route in service.application.routes} >= {"/plates/twice", "/plates/{country}/read"}
    assert service.close() is None


def test_a_load_that_raises_names_the_line(program: Program) -> None:
    path = program(PLATES.replace('self.country = "de"', "1 / 0"))
    service = loaded(described(path)["plates"])
    with pytest.raises(
        LoadError, match=r"^Plates.load\(\) raised ZeroDivisionError: division by zero; see served_program"
    ):
        service.start()


def test_a_file_that_was_rewritten_meanwhile_is_told(program: Program) -> None:
    plates = described(program(PLATES))["plates"]
    with pytest.raises(
        TargetError, match=r"^served_program.py has changed: Double is a service no more; load it again$"
    ):
        loaded({**plates, "source": {**plates["source"], "class": "Double"}})
    with pytest.raises(
        TargetError, match=r'^class Plates has the handle "double", which it had not when it was described'
    ):
        loaded({**plates, "source": {**plates["source"], "uses": {}}})


def test_a_service_is_not_loaded_as_a_model(program: Program) -> None:
    path = program(PLATES)
    with pytest.raises(TargetError, match=r'has the service "plates" and no model; make one of its class and call its'):
        samovar.load(f"{path}:Plates")
    assert samovar.load(path).name == "double"
    assert asyncio.run(__import__("served_program").Plates().twice(_floats())).tolist() == [2, 4]


def _floats() -> Any:
    import numpy as np

    return np.array([1, 2], np.float32)


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        (
            "read(self, a: int, b: str = '') -> int: ...",
            {"method": "POST", "path": "/s/read", "fields": {"a": 1}, "files": []},
        ),
        (
            'read(self, x: Float32[np.ndarray, "2 n"]) -> int: ...',
            {"method": "POST", "path": "/s/read", "fields": {"x": [[0], [0]]}, "files": []},
        ),
        ('read(self, x: Float32[np.ndarray, "3 224 224"]) -> int: ...', None),
        ("read(self, a: dict[str, int]) -> int: ...", None),
    ],
)
def test_a_request_to_try_has_plain_values(program: Program, method: str, request_: Any) -> None:
    path = program(f"@samovar.service\nclass S:\n    @samovar.api\n    def {method}\n")
    assert described(path)["s"]["source"]["request"] == request_
