"""What in a program of torch.export could run code when torch loads it.

Names of a graph become Python code, expressions are evaluated, operators are looked up below `torch`, and some weights
are pickles: anything there that exporters do not write is refused.
"""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from samovar.errors import TargetError, text_of

__all__ = ["danger"]

_OPERATOR = re.compile(r"torch\.ops\.[a-z]\w*\.\w+(\.\w+)?|torch\.sym_\w+|_operator\.[a-z]+_?|math\.[a-z]\w*")
_NO_OPERATORS = ("_operator.attrgetter", "_operator.call", "_operator.itemgetter", "_operator.methodcaller")
_NAME = re.compile(r"[\w.]*")
_TEXT = re.compile(r"[^'\"\\\x00-\x1f]*")
_EXPRESSION = (
    *(ast.Expression, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Compare, ast.IfExp, ast.Call, ast.keyword, ast.Tuple),
    *(ast.Name, ast.Constant, ast.Attribute, ast.Subscript, ast.Load),
    *(ast.operator, ast.boolop, ast.unaryop, ast.cmpop),
)
_FUNCTION = re.compile(r"torch\.sym_\w+|math\.[a-z]\w*")  # of numbers, in guards
_METHODS = ("size", "stride", "storage_offset", "dim", "numel")
_OF_SYMPY = """
Symbol Integer Float Rational Add Mul Pow Mod Max Min Abs Eq Ne Lt Le Gt Ge Equality Unequality And Or Not Piecewise
StrictLessThan StrictGreaterThan LessThan GreaterThan floor ceiling sqrt log exp sin cos tan
bool int float min max abs round
"""


def danger(path: Path) -> str | None:
    """What in an archive could run code when torch loads it; None where there is nothing but a graph and numbers."""
    import io
    import zipfile

    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            folded = [name.lower() for name in names]
            if len(set(folded)) != len(names) or len({name.partition("/")[0] for name in names}) != 1:
                return "two files of one name"  # torch could read the other
            for name in names:
                inner = name.partition("/")[2]
                if inner.startswith("data/sample_inputs/"):
                    torch.load(io.BytesIO(archive.read(name)), map_location="cpu", weights_only=True)
                elif inner.startswith("data/constants/") and inner.endswith(".pt"):
                    return "constants of an older format"
                elif inner.endswith(".json"):
                    fault = _danger_in(inner, json.loads(archive.read(name)))
                    if fault is not None:
                        return fault
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError) as error:
        raise TargetError(
            f"{path.name} is a damaged archive: {text_of(error)}", "save it again by torch.export.save"
        ) from None
    except Exception:  # noqa: BLE001 - of the pickle of the samples: what weights_only refuses
        return "sample inputs that are no tensors"
    return None


def _danger_in(name: str, content: Any) -> str | None:
    if name.startswith("models/"):
        functions = _functions()
        return next(_of_graph("", content, functions), None)
    for entry in (content.get("config") or {}).values() if isinstance(content, dict) else ():
        if entry.get("use_pickle") or entry.get("path_name", "").startswith(("custom_obj", "opaque_obj")):
            return "pickled objects"
    return None


def _functions() -> frozenset[str]:
    from torch.utils._sympy import functions

    return frozenset((*_OF_SYMPY.split(), *functions.__all__))


def _of_graph(key: str, value: Any, functions: frozenset[str]) -> Iterator[str]:
    """Each thing in the JSON of a graph that no exporter writes."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "metadata":  # stack traces: for people
                continue
            is_range = key == "range_constraints" and _is_arithmetic(name, functions, may_index=False)  # 2*s0
            if not is_range and not _NAME.fullmatch(name):
                yield f"the name {name[:40]!r}"
            yield from _of_graph(name, inner, functions)
    elif isinstance(value, list):
        for inner in value:
            yield from _of_graph(key, inner, functions)
    elif isinstance(value, str) and not _is_harmless(key, value, functions):
        yield f"{value[:40]!r} as {key or 'a text'}"


def _is_harmless(key: str, text: str, functions: frozenset[str]) -> bool:
    if key in ("target", "as_operator"):
        return bool(_NAME.fullmatch(text)) and (not _is_resolved(text) or _is_operator(text))
    if key in ("expr_str", "guards_code"):
        return _is_arithmetic(text, functions, may_index=key == "guards_code")
    if key in ("in_spec", "out_spec"):
        return _is_structure(text)
    if key in ("name", "fqn", "as_name") or key.endswith("_name"):
        return bool(_NAME.fullmatch(text))
    return bool(_TEXT.fullmatch(text))


def _is_resolved(target: str) -> bool:
    """Whether torch looks for a function of this name: others are names of weights."""
    return target.startswith(("torch", "_operator", "math"))


def _is_operator(target: str) -> bool:
    return (
        bool(_OPERATOR.fullmatch(target))
        and target not in _NO_OPERATORS
        and "__" not in target.rsplit(".", maxsplit=1)[-1]
    )


def _is_structure(text: str) -> bool:
    """The JSON of how inputs nest: keys of dictionaries become code."""

    def texts(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from texts(inner)

    try:
        return all(
            _TEXT.fullmatch(found) or (found[:1] in '["{' and _is_structure(found)) for found in texts(json.loads(text))
        )
    except ValueError:
        return False


def _is_arithmetic(text: str, functions: frozenset[str], *, may_index: bool) -> bool:
    """An expression of numbers, symbols and known functions; a guard asks tensors for their sizes besides."""
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError):
        return False
    for node in ast.walk(tree):
        if not isinstance(node, _EXPRESSION):
            return False
        if isinstance(node, ast.Subscript | ast.Attribute) and not may_index:
            return False
        if isinstance(node, ast.Attribute) and node.attr not in _METHODS and not _FUNCTION.fullmatch(ast.unparse(node)):
            return False
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not _NAME.fullmatch(node.value):
            return False
        if isinstance(node, ast.Call):
            is_known = isinstance(node.func, ast.Attribute) or (
                isinstance(node.func, ast.Name) and node.func.id in functions
            )
            if not is_known:
                return False
    return True
