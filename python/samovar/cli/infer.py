"""`samovar infer`: one request, its inputs from words, JSON or files."""

from pathlib import Path
from typing import Annotated, Any

import typer

from samovar.cli.engines import connect
from samovar.cli.options import AsJson, EngineName, Url
from samovar.errors import InputError

__all__ = ["infer"]

_INPUT_HELP = "JSON, or @file.npy, @file.json, @image.jpg, @file (the bytes of one element); @- is standard input"


def infer(  # noqa: PLR0913, PLR0917 - each is an option
    model: Annotated[str, typer.Argument(metavar="MODEL", help="name of the model")],
    given: Annotated[list[str] | None, typer.Option("--input", "-i", metavar="NAME=VALUE", help=_INPUT_HELP)] = None,
    rows: Annotated[
        str | None,
        typer.Option("--records", metavar="ROWS", help='rows of a table: [{"column": value}], @file.json, @-'),
    ] = None,
    wanted: Annotated[
        list[str] | None,
        typer.Option("--output", "-o", metavar="NAME[=@FILE]", help="only this output; to a .npy or .json file"),
    ] = None,
    version: Annotated[str | None, typer.Option(metavar="VERSION", help="a version of the model")] = None,
    url: Url = None,
    engine: EngineName = None,
    as_json: AsJson = False,
) -> None:
    """Call a model. A name may be left out where there is only one: --input '[[1, 2]]', --output @out.npy."""
    from samovar.cli.inputs import read_inputs, read_records
    from samovar.cli.output import print_json, waiting
    from samovar.cli.outputs import print_outputs, write_output

    with connect(url, engine) as connected:
        metadata = connected.client.metadata(model, version)
        files = _output_files(wanted or (), metadata)
        inputs = read_inputs(given or (), metadata) if rows is None else read_records(rows, given or ())
        with waiting(f"waiting for {model} ..."):
            outputs = connected.client.infer(model, inputs, version=version, outputs=list(files))
    for name, path in files.items():
        if path is not None:
            write_output(name, outputs.pop(name), path)
    if as_json:
        from samovar.cli.outputs import as_json_value

        values = [as_json_value(*output) for output in outputs.items()]
        print_json({"model": model, "outputs": values}, indent=None)
    elif outputs:
        print_outputs(outputs)


def _output_files(wanted: Any, metadata: dict[str, Any]) -> dict[str, Path | None]:
    """The outputs that are asked for, and the file of each."""
    known = [tensor["name"] for tensor in metadata["outputs"]]
    files: dict[str, Path | None] = {}
    for words in wanted:
        name, _, place = words.rpartition("=") if "=@" in words or words.startswith("@") else (words, "", "")
        if not name:
            if len(known) != 1:
                raise InputError(f'--output "{words}" names no output', f"the model has {', '.join(known)}")
            name = known[0]
        files[name] = Path(place.removeprefix("@")) if place else None
    return files
