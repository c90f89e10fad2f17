"""The options of `conch plan`, by what is planned."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from conch.capacity.need import duration, rate
from conch.options import size

_OF_A_LOAD = "Replicas for a load"

# A model on a server or, with --web, in a browser.
Memory = Annotated[
    int | None,
    typer.Option(
        parser=size,
        metavar="SIZE",
        help="Also print the longest text that fits into this much memory, such as 2GB.",
    ),
]
Precision = Annotated[Literal["fp32", "int8"], typer.Option(help="Number format of the matrix products.")]
Cores = Annotated[int | None, typer.Option(min=1, help="Cores to plan for. [default: those of this machine]")]
Rows = Annotated[int, typer.Option(min=1, help="Texts of that length in one run; Triton merges up to 8.")]
Measure = Annotated[
    bool, typer.Option("--measure", help="Run the graph in a process of its own and print its peak memory.")
]
Web = Annotated[
    bool,
    typer.Option("--web", help="Print instead the memory of a web page that runs the model, by length of text."),
]

# A load.
Rate = Annotated[
    float | None,
    typer.Option(
        parser=rate,
        metavar="RATE",
        rich_help_panel=_OF_A_LOAD,
        help="Print instead how many replicas answer so many texts, such as 200/s, 12000/min.",
    ),
]
Lengths = Annotated[
    str,
    typer.Option(
        metavar="FILE|LENGTHS",
        rich_help_panel=_OF_A_LOAD,
        help="Tokens of each text: a file with a number in every line, mixed (log-normal, median 40), a number, or "
        "a range such as 8-256.",
    ),
]
P99 = Annotated[
    float,
    typer.Option(
        parser=duration,
        metavar="TIME",
        rich_help_panel=_OF_A_LOAD,
        help="Time in which 99 % are to be answered, such as 100ms, 0.5s.",
    ),
]
Profile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", rich_help_panel=_OF_A_LOAD, help="Measured on one replica by `conch bench --profile FILE`."
    ),
]
