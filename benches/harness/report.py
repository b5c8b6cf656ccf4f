"""The report: one HTML file with the figures and a chart library in it, that needs nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

#: MIT licence. Fetched when a report is written, since a minified library has no place in a source repository.
CHART_PACKAGE = "chart.js@4.5.1"
CHART_FILE = "package/dist/chart.umd.min.js"
TEMPLATE = Path(__file__).with_name("report.html")


def write(document: dict[str, object], path: Path) -> None:
    try:
        library = chart_library(path.parent)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"No report: {CHART_PACKAGE} cannot be fetched by npm (Debian package npm): {error}")
    # A script element ends at the first "</" whatever the language in it says.
    data = json.dumps(document).replace("</", "<\\/")
    html = TEMPLATE.read_text().replace("/*DATA*/", data).replace("/*LIBRARY*/", library)
    path.write_text(html)
    print(f"report:  {path}")
    path.with_suffix(".md").write_text(table(document))
    print(f"table:   {path.with_suffix('.md')}")


def table(document: dict[str, object]) -> str:
    """Server CPU for one request, as Markdown: what docs/BENCHMARKS.md shows."""
    results = document["results"]
    rows = [row for row in document["rows"] if row in results]
    figure = {row: "bytes_per_connection" if row.startswith("idle-") else "cpu_us" for row in rows}
    lines = [f"| server | {' | '.join(rows)} |", "| --- |" + " ---: |" * len(rows)]
    for server in document["servers"]:
        values = [results[row].get(server["name"], {}).get(figure[row]) for row in rows]
        cells = [readable(value["median"]) if value else "–" for value in values]
        if any(values):
            lines.append(f"| {server['name']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def readable(value: float) -> str:
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"


def chart_library(folder: Path) -> str:
    kept = folder / f"{CHART_PACKAGE}.js"
    if not kept.exists():
        if not shutil.which("npm"):
            raise FileNotFoundError("npm is missing")
        with tempfile.TemporaryDirectory() as temporary:
            command = ["npm", "pack", "--silent", CHART_PACKAGE]
            packed = subprocess.run(command, cwd=temporary, capture_output=True, text=True, check=True)
            with tarfile.open(Path(temporary) / packed.stdout.strip()) as archive:
                kept.write_bytes(archive.extractfile(CHART_FILE).read())
    return kept.read_text()
