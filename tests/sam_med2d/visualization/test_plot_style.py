"""Colours and markers of the parts of a plot."""

from sam_med2d.visualization import plot_style


def test_parts_differ_in_colour_and_in_marker():
    styles = [plot_style.line_style(i) for i in range(42)]
    assert len({(style["color"], style["marker"]) for style in styles}) == 42
    assert len({style["color"] for style in styles[:6]}) == len({style["marker"] for style in styles[:6]}) == 6
