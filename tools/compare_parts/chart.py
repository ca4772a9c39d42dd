"""Bar charts as SVG, written by hand: a few rectangles with their names and values."""
import dataclasses
from xml.sax.saxutils import escape

WIDTH, EDGE, NAMES, VALUES = 720, 20, 130, 80
BAR, GAP, HEAD, GROUP_HEAD, GROUP_GAP = 14, 5, 46, 22, 12
# The card has a ground of its own, so that it can be read whatever the page around it looks like.
STYLE = """
text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 } .group { font-weight: 600 } .dim { fill: #59636e }
.ground { fill: #ffffff; stroke: #d8dee4 } .own { fill: #2f6fdb } .peer { fill: #a9b4c0 }
.limit { fill: none; stroke: #59636e; stroke-dasharray: 3 2 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .dim { fill: #9198a1 } .ground { fill: #151b23; stroke: #3d444d }
.own { fill: #5b9bff } .peer { fill: #5d6773 } .limit { stroke: #9198a1 }
}
"""


@dataclasses.dataclass(frozen=True)
class Bar:
    name: str
    # None is not drawn.
    value: float
    # "own", "peer" or "limit"
    kind: str


@dataclasses.dataclass(frozen=True)
class Group:
    name: str
    bars: list


def text(x, y, words, css="", anchor="start"):
    return f'<text x="{x:g}" y="{y:g}" class="{css}" text-anchor="{anchor}">{escape(words)}</text>'


def chart(title, unit, groups, digits=0):
    """Groups one below the other, all on one scale."""
    groups = [Group(g.name, [bar for bar in g.bars if bar.value is not None]) for g in groups]
    most = max((bar.value for g in groups for bar in g.bars), default=0) or 1
    room = WIDTH - 2 * EDGE - NAMES - VALUES
    parts, y = [text(EDGE, 30, title, "title"), text(WIDTH - EDGE, 30, unit, "dim", "end")], HEAD
    for group in groups:
        parts.append(text(EDGE, y + 15, group.name, "group"))
        y += GROUP_HEAD
        for bar in group.bars:
            left, length = EDGE + NAMES, max(bar.value / most * room, 1)
            parts.append(text(left - 8, y + 11, bar.name, "dim", "end"))
            parts.append(f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2" class="{bar.kind}"/>')
            parts.append(text(left + length + 6, y + 11, f"{bar.value:,.{digits}f}"))
            y += BAR + GAP
        y += GROUP_GAP
    height = y + 4
    ground = f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8" class="ground"/>'
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img">', f"<title>{escape(title)}, {escape(unit)}</title>", f"<style>{STYLE}</style>", ground, *parts,
        "</svg>", ""])
