"""`make demo`: serve examples/plates, send it a street with cars, one without, and photos of one's own."""

import argparse
import contextlib
import socket
import sys
import time
from pathlib import Path

import httpx
import numpy as np
from examples.plates import recognize, scenes
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table
from scripts.serving_process import engine

PLATES = Path(__file__).parent.parent / "examples" / "plates" / "plates.py"
PICTURES = Path("build/demo")
SERVED = ("plates", "detector", "stn", "lprnet")
STAGES = ("queue", "wait", "input", "compute", "output")
NEXT = """
The engine stays up until Ctrl-C. Try, in a second terminal:

  make demo PHOTO=car.jpg                                    # a photo of your own
  curl {url}/plates/recognize -F image=@{street}
  curl {url}/plates/recognize -F image=@Makefile             # an error tells its cure
  curl {url}/v2/models/lprnet                                # each model is served alone, too
  curl -s {url}/metrics | grep samovar_batch_size
  pkill -KILL -f 'samovar worker'                            # then ask again: nothing was lost

or, in a browser, {url}/plates/docs
"""
console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)


def main() -> None:
    """Serve, ask, and stay unless told otherwise; fails if a plate of the street is not read as it was drawn."""
    arguments = parse()
    PICTURES.mkdir(parents=True, exist_ok=True)
    port = arguments.port
    if port is None:
        port = 0 if arguments.once else preferred(8000)
    with (PICTURES / "engine.log").open("wb") as log, engine(PLATES, port, log=log) as served:
        is_right = show_streets(served.url)
        for photo in arguments.photo:
            show_photo(served.url, photo)
        show_stages(served.url)
        if not is_right:
            raise SystemExit("what was read is not what was drawn")
        if not arguments.once:
            console.print(NEXT.format(url=served.url, street=PICTURES / "street.jpg"), soft_wrap=True)
            with contextlib.suppress(KeyboardInterrupt):
                served.process.wait()


def show_streets(url: str) -> bool:
    """Draw a street with cars and one without, have them read; whether both answers are right."""
    with_cars, without = (scenes.street(np.random.default_rng(scenes.SEED), cars) for cars in (scenes.CARS, 0))
    for name, scene in (("street", with_cars), ("empty", without)):
        scenes.save(scene.image, PICTURES / f"{name}.jpg")
    drawn = {plate.text for plate in with_cars.plates}
    plates = show_photo(url, PICTURES / "street.jpg")
    read = {plate["text"] for plate in plates}
    console.print(f"{len(drawn & read)} of the {len(drawn)} plates that were drawn are read rightly")
    before = scrape(url)
    nothing = show_photo(url, PICTURES / "empty.jpg")
    after = scrape(url)
    ran = [
        model for model in SERVED[1:] if after["samovar_batches_total", model] > before["samovar_batches_total", model]
    ]
    console.print(f"for that no model ran but {' and '.join(ran)}" if not nothing else "but no car has been drawn")
    return read == drawn and nothing == [] and ran == ["detector"]


def show_photo(url: str, photo: Path) -> list[recognize.Plate]:
    """Have a photo read, print its plates, save it with them drawn in."""
    began = time.perf_counter()
    plates = recognize.recognize(url, photo)
    took = time.perf_counter() - began
    count = {0: "no plate", 1: "one plate"}.get(len(plates), f"{len(plates)} plates")
    console.print(f"\n[bold]{photo}[/bold]: {count} in {took * 1000:.0f} ms")
    if plates:
        table = plain_table("plate", "confidence", "x", "y", "width", "height")
        for plate in plates:
            table.add_row(f"[green]{plate['text']}", f"{plate['confidence']:.2f}", *map(str, plate["box"].values()))
        console.print(table)
        annotated = PICTURES / f"{photo.stem}-read.jpg"
        recognize.annotate(photo, plates, annotated)
        console.print(f"drawn into {annotated}")
    return plates


def show_stages(url: str) -> None:
    """What the metrics tell of each model: where the time of its requests went."""
    told = scrape(url)
    table = plain_table("mean milliseconds", *STAGES, "requests", "batches")
    for column in table.columns[1:]:
        column.justify = "right"
    for model in SERVED:
        sums = [told[f"samovar_stage_seconds_sum{stage}", model] for stage in STAGES]
        counts = [told[f"samovar_stage_seconds_count{stage}", model] for stage in STAGES]
        means = [f"{total / max(1, count) * 1000:.2f}" for total, count in zip(sums, counts, strict=True)]
        numbers = [f"{told[name, model]:.0f}" for name in ("samovar_items_total", "samovar_batches_total")]
        table.add_row(model, *means, *numbers)
    console.print(
        "\n[bold]where the time went[/bold], from /metrics; the service computes while it waits for the models"
    )
    console.print(table)


def scrape(url: str) -> dict[tuple[str, str], float]:
    """The samples of /metrics by name and model; a stage is part of the name."""
    page = httpx.get(f"{url}/metrics").raise_for_status().text
    return {
        (sample.name + sample.labels.get("stage", ""), sample.labels.get("model", "")): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def plain_table(*headings: str) -> Table:
    """A table without lines."""
    return Table(*headings, box=None, pad_edge=False, padding=(0, 3, 0, 0))


def preferred(port: int) -> int:
    """This port if it is free, else 0 for any."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return 0 if probe.connect_ex(("127.0.0.1", port)) == 0 else port


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo", nargs="*", type=Path, help="photos to read as well")
    parser.add_argument("--once", action="store_true", help="end after the answers")
    parser.add_argument("--port", type=int, help="where to listen (8000 if that is free)")
    arguments = parser.parse_args()
    for photo in arguments.photo:
        if not photo.is_file():
            parser.error(f"there is no photo {photo}")
    return arguments


if __name__ == "__main__":
    main()
