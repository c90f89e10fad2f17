"""The reference page of `conch_client`: what `__all__` lists, with signatures and docstrings, read by griffe.

Nothing is imported, so annotations stand as they are written, those for type checkers included.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import griffe

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PACKAGE = "conch_client"
LINE = 100
CLIENT, ASYNC_CLIENT, ERROR = "Client", "AsyncClient", "ConchError"


def page() -> str:
    """Return the page in Markdown."""
    search_paths = [ROOT / "client", ROOT / "contract"]
    loader = griffe.GriffeLoader(search_paths=search_paths, docstring_parser=griffe.Parser.google)
    loader.load("conch_contract")  # where some of the public names are defined
    package = loader.load(PACKAGE)
    public = {name: _target(package[name]) for name in map(str, package.exports or ())}
    errors = {name: member for name, member in public.items() if _is_error(member)}
    types = {name: member for name, member in public.items() if name not in errors and name != CLIENT}
    lines = ["# Python API", "", "Generated from the code by `make docs`. How to use it: [clients.md](clients.md).", ""]
    for name, member in {CLIENT: public[CLIENT], **types}.items():
        lines += _object(name, member, public)
    lines += ["## Errors", "", f"Every error is a `{ERROR}`.", "", "| error | raised when |", "| --- | --- |"]
    lines += [f"| `{name}` | {_prose(_docstring(member).splitlines()[0])} |" for name, member in errors.items()]
    return "\n".join(lines) + "\n"


def _target(member: griffe.Object | griffe.Alias) -> griffe.Object:
    return member.final_target if isinstance(member, griffe.Alias) else member


def _is_error(member: griffe.Object) -> bool:
    return isinstance(member, griffe.Class) and member.name.endswith("Error")


def _object(name: str, member: griffe.Object, public: dict[str, griffe.Object]) -> Iterator[str]:
    yield from (f"## `{name}`", "")
    if not isinstance(member, griffe.Class):
        yield from ("```py", f"{name} = {getattr(member, 'value', '')}", "```", "", _prose(_docstring(member)), "")
        return
    methods = {key: value for key, value in _methods(member).items() if not key.startswith("_")}
    if not _has_attributes(member) and "__init__" in _methods(member):
        yield from _signature(name, _methods(member)["__init__"])
    yield from _sections(member)
    if name == ASYNC_CLIENT:
        same = _methods(public[CLIENT])
        calls = [f"[`{key}`](#{CLIENT.lower()}{key})" for key in methods if key in same]
        yield from (f"The calls of [`{CLIENT}`](#{CLIENT.lower()}), to be awaited: {', '.join(calls)}.", "")
        methods = {key: value for key, value in methods.items() if key not in same}
    for key, method in methods.items():
        yield from (f"### `{name}.{key}`", "")
        yield from _signature(key, method)
        yield from _sections(method)


def _has_attributes(member: griffe.Object) -> bool:
    """Whether the docstring lists attributes: a result or a value, whose constructor says the same again."""
    parsed = member.docstring.parsed if member.docstring else []
    return any(isinstance(section, griffe.DocstringSectionAttributes) for section in parsed)


def _methods(member: griffe.Object) -> dict[str, griffe.Function]:
    """Return those of a class, its own before those that it inherits within the packages."""
    inherited = member.inherited_members if isinstance(member, griffe.Class) else {}
    found = {key: _target(value) for key, value in {**member.members, **inherited}.items()}
    return {key: value for key, value in found.items() if isinstance(value, griffe.Function)}


def _signature(name: str, function: griffe.Function) -> Iterator[str]:
    """The call on one line if it fits, else one parameter on each."""
    words, keyword_only = [], False
    for parameter in function.parameters:
        if parameter.name == "self":
            continue
        if parameter.kind is griffe.ParameterKind.keyword_only and not keyword_only:
            keyword_only = True
            words.append("*")
        default = f" = {parameter.default}" if parameter.default is not None else ""
        words.append(f"{parameter.name}: {parameter.annotation}{default}")
    result = f" -> {function.returns}" if function.returns and name[0].islower() else ""
    line = f"{name}({', '.join(words)}){result}"
    lines = [line] if len(line) <= LINE else [f"{name}(", *(f"    {word}," for word in words), f"){result}"]
    yield from ("```py", *lines, "```", "")


def _sections(member: griffe.Object) -> Iterator[str]:
    for section in member.docstring.parsed if member.docstring else ():
        if isinstance(section, griffe.DocstringSectionText):
            yield from (_prose(section.value), "")
        elif isinstance(section, griffe.DocstringSectionParameters):
            yield from (f"- `{item.name}`: {_one_line(item.description)}" for item in section.value)
            yield ""
        elif isinstance(section, griffe.DocstringSectionAttributes):
            yield from (f"- `{item.name}: {item.annotation}`: {_one_line(item.description)}" for item in section.value)
            yield ""
        elif isinstance(section, griffe.DocstringSectionReturns):
            yield from (f"Returns: {' '.join(_one_line(item.description) for item in section.value)}", "")
        elif isinstance(section, griffe.DocstringSectionRaises):
            yield from (f"- raises `{item.annotation}`: {_one_line(item.description)}" for item in section.value)
            yield ""
        else:
            raise ValueError(f"{member.path}: no rule for a docstring's section '{section.kind.value}'; add one here")


def _docstring(member: griffe.Object) -> str:
    return member.docstring.value if member.docstring else ""


def _prose(text: str) -> str:
    return text.replace("``", "`")


def _one_line(text: str) -> str:
    return " ".join(_prose(text).split())
