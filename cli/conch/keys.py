"""`conch keys`: the API keys that open the gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from conch.console import fail, stderr, stdout

File = Annotated[Path, typer.Option(metavar="FILE", envvar="CONCH_API_KEYS_FILE", help="File of the keys.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the key, which identifies its holder in logs.")]
DEFAULT = Path("keys.json")

keys = typer.Typer(name="keys", no_args_is_help=True)


@keys.callback()
def group() -> None:
    """Create, list and revoke API keys; a running gateway notices changes within a second."""


@keys.command()
def create(
    name: Name,
    file: File = DEFAULT,
    admin: Annotated[bool, typer.Option("--admin", help="Also allow administration.")] = False,
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Allow only this model or alias; repeat for more.")
    ] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1, help="Requests allowed per minute.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(min=1, help="Tokens allowed per minute.")] = None,
) -> None:
    """Create a key and print it once. The file, which is created if there is none, has only its hash."""
    secret = _call(
        "create_key",
        file,
        name,
        admin=admin,
        models=model or (),
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
    )
    stderr.print(f"serve with CONCH_API_KEYS_FILE={file}; this is shown once:", soft_wrap=True)
    typer.echo(secret)


@keys.command("list")
def show(file: File = DEFAULT) -> None:
    """List names and permissions of the keys."""
    table = Table("name", "created", "admin", "models", "requests/min", "tokens/min")
    for key in _call("read_keys", file):
        limits = (str(limit or "-") for limit in (key.requests_per_minute, key.tokens_per_minute))
        models = ", ".join(sorted(key.models)) if key.models else "all"
        table.add_row(key.name, str(key.created), "yes" if key.admin else "", models, *limits)
    stdout.print(table)


@keys.command()
def revoke(name: Name, file: File = DEFAULT) -> None:
    """Remove a key from the file: it opens nothing from then on."""
    _call("revoke_key", file, name)
    stderr.print(f"revoked {name}")


def _call(what: str, *arguments: object, **options: object) -> Any:
    """Call a function of `conch_gateway.auth.keys`; its errors end the command in one line."""
    from conch_gateway import KeysError  # noqa: PLC0415
    from conch_gateway.auth import keys  # noqa: PLC0415

    try:
        return getattr(keys, what)(*arguments, **options)
    except KeysError as error:
        fail(str(error))
