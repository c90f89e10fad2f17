"""Charts of curves over time."""

from __future__ import annotations

from xml.etree import ElementTree

from benchmarks.curves import MOST_CURVES, figure

EVENTS = [{"at_s": 5, "what": "something happens"}]


def test_each_panel_has_its_curves_and_the_events() -> None:
    panels = [
        {"title": "Requests", "unit": "per s", "curves": {"200": [[0, 1.0], [10, 4.0]], "<503>": [[5, 2.0]]}},
        {"title": "Nothing", "unit": "s", "curves": {}},
    ]
    picture = ElementTree.fromstring(figure("a picture", panels, 10, EVENTS))  # noqa: S314 - our own
    paths = [path.get("class") or "" for path in picture.iter("{http://www.w3.org/2000/svg}path")]
    assert sorted(paths) == ["axis", "axis", "c0", "c1", "event", "event"]
    assert "<503>" in "".join(picture.itertext())


def test_only_the_highest_of_many_curves_are_drawn() -> None:
    curves = {str(number): [[0, float(number)], [10, float(number)]] for number in range(10)}
    picture = figure("a picture", [{"title": "Many", "unit": "", "curves": curves}], 10, [])
    assert [f">{number}</text>" in picture for number in (9, 6, 5)] == [True, True, False]
    assert picture.count('class="c') == MOST_CURVES
