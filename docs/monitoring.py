"""Generated parts of monitoring.md: the metrics, as they are registered, and the alerts, as Prometheus gets them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deploy.prometheus import series

if TYPE_CHECKING:
    from collections.abc import Iterator


def metrics() -> str:
    """Return the table of the metrics of `conch serve`."""
    return "\n".join(
        [
            "| metric | kind | labels | meaning |",
            "| --- | --- | --- | --- |",
            *(
                f"| `{each.name}` | {each.kind} | {', '.join(f'`{label}`' for label in each.labels)} | {each.meaning} |"
                for each in series.exposed()
            ),
        ]
    )


def alerts() -> str:
    """Return what each alert means and what to do; raises ValueError for a rule about series that do not exist."""
    rules = series.rules()
    series.check({f"rule {rule.get('alert') or rule.get('record')}": rule["expr"] for rule in rules})
    return "\n".join(line for rule in rules if "alert" in rule for line in _alert(rule)).strip()


def _alert(rule: dict[str, Any]) -> Iterator[str]:
    labels, told = rule["labels"], rule["annotations"]
    duration = f", for {rule['for']}" if "for" in rule else ""
    summary = told["summary"].replace("{{ $labels.", "`").replace(" }}", "`")
    yield from (f"### {rule['alert']}", "", f"*{labels['severity']}{duration}.* {summary}", "")
    yield from ("```", str(rule["expr"]).strip(), "```", "", told["action"].strip(), "")
