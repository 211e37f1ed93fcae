"""The decorators mark classes and methods and change nothing else."""

from typing import Any

import pytest

import samovar
from samovar.errors import ConfigError
from samovar.model import declaration_of
from samovar.service.declaration import apis_of, mounts_of, service_declaration_of


async def application(scope: Any, receive: Any, send: Any) -> None: ...


def test_the_class_stays_as_it_is() -> None:
    @samovar.service
    class PlateReader:
        @samovar.api
        def read(self, text: str) -> str:
            return text.upper()

        @samovar.api(path="/plates/{key}", method="get")
        def find(self, key: str) -> str:
            return key

        def help(self) -> None: ...

    assert PlateReader().read("a") == "A"
    declaration = service_declaration_of(PlateReader)
    assert declaration is not None
    assert (declaration.name, declaration.version) == ("plate_reader", "1")
    assert declaration.options == {"concurrency": 100}
    assert declaration_of(PlateReader) is None
    apis = apis_of(PlateReader)
    assert list(apis) == ["read", "find"]
    assert (apis["read"].method, apis["read"].idempotent, apis["read"].path) == ("POST", False, None)
    assert (apis["find"].method, apis["find"].idempotent, apis["find"].path) == ("GET", True, "/plates/{key}")


def test_options_and_names_may_be_given() -> None:
    @samovar.service(name="plates", version=3, instances=2, concurrency=7)
    class Shop:
        @samovar.api(idempotent=True, name="look")
        def find(self) -> None: ...

    declaration = service_declaration_of(Shop)
    assert declaration is not None
    assert (declaration.name, declaration.version) == ("plates", "3")
    assert declaration.options == {"concurrency": 7, "instances": 2}
    assert apis_of(Shop)["find"].idempotent


def test_a_subclass_has_the_methods_of_its_bases_but_is_no_service_by_itself() -> None:
    @samovar.service
    class Base:
        samovar.mount("/one", application)

        @samovar.api
        def kept(self) -> None: ...

        @samovar.api
        def dropped(self) -> None: ...

    class Heir(Base):
        samovar.mount("/two", application)

        def dropped(self) -> None: ...

        @samovar.api
        def own(self) -> None: ...

    assert service_declaration_of(Heir) is None
    assert list(apis_of(Heir)) == ["kept", "own"]
    assert [mounted.path for mounted in mounts_of(Heir)] == ["/one", "/two"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"max_batch_size": 3},
            (
                'setting "max_batch_size" in @samovar.service of class S is one of models; set it for the models '
                "that the service uses"
            ),
        ),
        (
            {"idempotent": True},
            (
                'setting "idempotent" in @samovar.service of class S is one of models; say it for each method with '
                "@samovar.api(idempotent=True)"
            ),
        ),
        (
            {"concurency": 3},
            'unknown setting "concurency" in @samovar.service of class S; did you mean "concurrency"?',
        ),
        (
            {"concurrency": 0},
            'setting "concurrency" in @samovar.service of class S is 0; it wants a whole number >= 1 and <= 65536',
        ),
        (
            {"name": "docs"},
            (
                "model name 'docs' is reserved for a path of the engine (in @samovar.service of class S); choose "
                "another with @samovar.service(name=...)"
            ),
        ),
    ],
)
def test_wrong_options_are_refused_with_the_cure(options: dict[str, Any], message: str) -> None:
    class S: ...

    with pytest.raises(ConfigError) as caught:
        samovar.service(**options)(S)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "find"}, "path 'find' in @samovar.api of {f} does not start with /; write the whole path"),
        ({"path": "/v2/find"}, "path '/v2/find' in @samovar.api of {f} would hide paths of the engine; let it start"),
        ({"path": "/{key}"}, "path '/{key}' in @samovar.api of {f} would hide paths of the engine; let it start"),
        (
            {"path": "/a/"},
            "path '/a/' in @samovar.api of {f} has the segment \"\"; a segment is letters, digits, . _ ~",
        ),
        ({"path": "/a/.."}, "path '/a/..' in @samovar.api of {f} has the segment \"..\"; a segment is letters"),
        ({"path": "/a/{x:path}"}, "path '/a/{x:path}' in @samovar.api of {f} has the segment \"{x:path}\"; a segment"),
        ({"method": "TRACE"}, "method 'TRACE' in @samovar.api of {f} is none that is served; known are GET, POST"),
        ({"name": "a b"}, "name 'a b' in @samovar.api of {f} cannot name a method; write letters, digits and _"),
        ({"idempotent": "yes"}, "idempotent 'yes' in @samovar.api of {f} is no truth; it wants true or false"),
        ({"method": "GET", "idempotent": False}, "idempotent=False in @samovar.api of {f} contradicts GET; use POST"),
    ],
)
def test_wrong_endpoints_are_refused_with_the_cure(options: dict[str, Any], message: str) -> None:
    def find() -> None: ...

    with pytest.raises(ConfigError) as caught:
        samovar.api(**options)(find)
    assert str(caught.value).startswith(message.replace("{f}", find.__qualname__))


def test_decorators_on_the_wrong_thing_say_where_they_belong() -> None:
    with pytest.raises(ConfigError, match=r"put it above a class with @samovar\.api methods"):
        samovar.service(3)  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match="put it above a method of a service"):
        samovar.api(int)


def test_an_application_at_the_top_of_a_file_is_a_service_of_its_own() -> None:
    module: dict[str, Any] = {"__name__": "program", "samovar": samovar, "app": application}
    exec("samovar.mount('/ui', app); samovar.mount('/ui/more', app); samovar.mount('/other-one', app)", module)
    found = {name: value for name, value in module.items() if isinstance(value, type)}
    assert {name: service_declaration_of(cls).name for name, cls in found.items()} == {  # type: ignore[union-attr]
        "mounted_ui": "ui",
        "mounted_other_one": "other-one",
    }
    assert [mounted.path for mounted in mounts_of(found["mounted_ui"])] == ["/ui", "/ui/more"]
    assert found["mounted_ui"].__module__ == "program"


def test_mounting_elsewhere_is_refused_with_the_cure() -> None:
    with pytest.raises(ConfigError) as caught:
        samovar.mount("/ui", application)
    assert str(caught.value) == (
        "samovar.mount('/ui', ...) stands in a function; write it into the body of a service class, or at the top of "
        "the file"
    )
    with pytest.raises(ConfigError, match="would hide paths of the engine"):
        samovar.mount("/metrics", application)
    with pytest.raises(ConfigError, match="give it an ASGI application"):
        samovar.mount("/ui", 3)  # type: ignore[arg-type]
