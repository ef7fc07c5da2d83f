"""`toxmesh man`: write the manual pages."""

import os
import time
from pathlib import Path

import click

from toxmesh.commands import DirectoryPath, complain


@click.command("man")
@click.argument("directory", type=DirectoryPath)
def command(directory: Path) -> int:
    """Write all manual pages into DIRECTORY, each below man1 or man5.

    They are made of the same words as `--help`. With SOURCE_DATE_EPOCH they bear that date, so
    that a package comes out the same each time. To read one: man -l DIRECTORY/man1/toxmesh.1
    """
    from toxmesh import cli, manual

    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    date = int(text) if text.isascii() and text.isdigit() else time.time()
    pages = manual.pages(cli.commands(), date)
    try:
        for name, page in pages.items():
            folder = directory / f"man{name[-1]}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(page, "utf-8")
    except OSError as error:
        complain(f"{error.filename} cannot be written: {(error.strerror or '?').lower()}")
        return 5 if isinstance(error, PermissionError) else 3
    click.echo(f"{len(pages)} pages in {directory}")
    return 0
