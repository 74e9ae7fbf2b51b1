"""Line charts as SVG, for docs/. Standard library alone."""

from html import escape
from math import log10
from pathlib import Path

COLOURS = ["#1b6ca8", "#d1495b", "#3a7d44", "#edae49", "#6b4e9b", "#555555", "#00a6a6", "#a0522d"]
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 460, 300, 64, 36, 120, 44

Lines = dict[str, list[tuple[float, float]]]


def chart(title: str, across: str, up: str, lines: Lines, log: bool, at: int) -> list[str]:
    """One chart, `at` pixels from the top: the horizontal axis is logarithmic, the vertical one if `log`."""
    xs = sorted({x for line in lines.values() for x, _ in line})
    ys = [y for line in lines.values() for _, y in line]
    low, high = (log10(min(ys)), log10(max(ys))) if log else (0.0, max(ys))
    low, high = (float(int(low) - (low < 0)), high + 0.1) if log else (low, high * 1.08)

    width = log10(xs[-1]) - log10(xs[0]) or 1.0  # of a single place

    def px(x: float) -> float:
        return LEFT + (log10(x) - log10(xs[0])) / width * (WIDTH - LEFT)

    def py(y: float) -> float:
        return at + TOP + (1 - ((log10(y) if log else y) - low) / (high - low)) * (HEIGHT - TOP - BOTTOM)

    out = [f'<text x="{LEFT}" y="{at + 20}" font-weight="bold">{escape(title)}</text>']
    if log:
        ticks = [10.0**power for power in range(int(low), int(high) + 1)]
    else:
        step = 10 ** int(log10(high)) / (1 if high / 10 ** int(log10(high)) > 4 else 4)
        ticks = [step * n for n in range(int(high / step) + 1)]
    for y in ticks:
        out.append(f'<line x1="{LEFT}" x2="{WIDTH}" y1="{py(y):.1f}" y2="{py(y):.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 6}" y="{py(y) + 4:.1f}" text-anchor="end">{y:,g}</text>')
    for x in xs:
        label = f"{x:g}" if x < 1000 else f"10^{log10(x):.0f}"
        out.append(f'<text x="{px(x):.1f}" y="{at + HEIGHT - BOTTOM + 16}" text-anchor="middle">{label}</text>')
    middle = (LEFT + WIDTH) / 2
    out.append(f'<text x="{middle}" y="{at + HEIGHT - 10}" text-anchor="middle" fill="#555">{escape(across)}</text>')
    side = at + HEIGHT / 2
    out.append(
        f'<text x="14" y="{side}" text-anchor="middle" fill="#555" transform="rotate(-90 14 {side})">{escape(up)}</text>'
    )
    for place, (name, line) in enumerate(lines.items()):
        colour = COLOURS[place % len(COLOURS)]
        points = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in line)
        out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="3" fill="{colour}"/>' for x, y in line]
        out.append(f'<text x="{WIDTH + 12}" y="{at + TOP + 12 + 18 * place}" fill="{colour}">{escape(name)}</text>')
    return out


def draw(path: Path, charts: list[tuple[str, str, str, Lines, bool]]) -> None:
    """Write charts, one below the other: title, what goes across, what goes up, lines, whether upwards is logarithmic."""
    body = [line for place, one in enumerate(charts) for line in chart(*one, at=place * HEIGHT)]
    size = f'width="{WIDTH + RIGHT}" height="{HEIGHT * len(charts)}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    path.write_text("\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *body, "</svg>", ""]))
