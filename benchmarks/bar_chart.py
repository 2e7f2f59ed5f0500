"""A horizontal bar chart as SVG text: one group of bars a case, one colour an implementation."""

from __future__ import annotations

from xml.sax.saxutils import escape

COLOURS = ("#2563a8", "#d08a2e", "#7a9a50", "#9a5a8a", "#808080", "#b5524a", "#4aa3a3", "#5c4a8a")
LABEL_WIDTH = 330
PLOT_WIDTH = 420
BAR_HEIGHT = 14
GROUP_GAP = 10
TOP = 58


def bar_chart(title: str, groups: list[tuple[str, list[tuple[str, float]]]]) -> str:
    """`groups`: (case, [(implementation, value)]); values are shares, 1 is the limit."""
    names = list(dict.fromkeys(name for _, bars in groups for name, _ in bars))
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    scale = PLOT_WIDTH / max(1.0, *(value for _, bars in groups for _, value in bars))
    body, y = [], TOP
    for label, bars in groups:
        middle = y + len(bars) * BAR_HEIGHT / 2 + 4
        body.append(text(LABEL_WIDTH - 8, middle, label, anchor="end"))
        for name, value in bars:
            width = value * scale
            body.append(
                f'<rect x="{LABEL_WIDTH}" y="{y}" width="{width:.1f}" height="{BAR_HEIGHT - 2}" '
                f'fill="{colours[name]}"/>'
            )
            body.append(text(LABEL_WIDTH + width + 4, y + BAR_HEIGHT - 4, f"{value:.2f}"))
            y += BAR_HEIGHT
        y += GROUP_GAP
    line = LABEL_WIDTH + scale
    body.append(
        f'<line x1="{line:.1f}" y1="{TOP - 4}" x2="{line:.1f}" y2="{y}" stroke="#444" '
        'stroke-dasharray="3 3"/>'
    )
    width = LABEL_WIDTH + PLOT_WIDTH + 50
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y + 6}" '
            'font-family="sans-serif" font-size="11">',
            '<rect width="100%" height="100%" fill="white"/>',
            text(10, 20, title, size=14),
            *legend(colours),
            *body,
            "</svg>\n",
        ]
    )


def legend(colours: dict[str, str]) -> list[str]:
    parts = []
    widths = [max(90, 30 + 6 * len(name)) for name in colours]
    x = LABEL_WIDTH if sum(widths) <= PLOT_WIDTH + 50 else 10
    for (name, colour), width in zip(colours.items(), widths):
        parts.append(f'<rect x="{x}" y="32" width="11" height="11" fill="{colour}"/>')
        parts.append(text(x + 16, 42, name))
        x += width
    return parts


def text(x: float, y: float, content: str, anchor: str = "start", size: int = 11) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">'
        f"{escape(content)}</text>"
    )
