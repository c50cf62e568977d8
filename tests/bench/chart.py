"""A bar chart of a result document, as SVG: three panels side by side, one row for each candidate.
The bare wire is told in words: beside its bar the others would be too short to compare."""
from xml.sax.saxutils import escape

PANELS = [
    ("One TCP stream", "Gbit/s, up and down", ("up", "down"), 2),
    ("64-byte packets", "thousands a second, delivered", ("udp_64",), 0),
    ("Ping beside a TCP stream", "ms, median and 99th percentile", ("load_median", "load_p99"), 1),
]
OURS, OTHERS, LIMIT = ("#0b6e99", "#7db8d3"), ("#6b7280", "#b6bcc6"), ("#c08a2d", "#e4c88d")
LEGEND = (("with culvert or culvertd", OURS), ("others", OTHERS),
          ("limit probes: what this machine allows", LIMIT))
TEXT, FAINT, GRID = "#1f2933", "#52606d", "#e4e7eb"
NAMES, PANEL, GAP, ROW, TOP, EDGE = 220, 250, 60, 34, 92, 24
FONT = "font-family=\"system-ui, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif\""


def colours(row):
    if row["name"].endswith(("-probe", "-yardstick")):
        return LIMIT
    return OURS if "culvert" in row["name"] else OTHERS


def nice_ceiling(value):
    """The next of 1, 2, 3, 5 times a power of ten."""
    step = 10.0 ** -3
    while True:
        for factor in (1, 2, 3, 5):
            if value <= factor * step:
                return factor * step
        step *= 10


def text(x, y, content, size=12, colour=TEXT, anchor="start", weight="400"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" '
            f'text-anchor="{anchor}" font-weight="{weight}">{escape(content)}</text>')


def bar(x, y, width, height, colour):
    return (f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{height:.1f}" '
            f'rx="2" fill="{colour}"/>')


def panel_lines(rows, left, title, subtitle, metrics, digits):
    values = [row["results"][m]["median"] for row in rows for m in metrics if m in row["results"]]
    top = nice_ceiling(max(values, default=1))
    bottom = TOP + ROW * len(rows)
    yield text(left, 40, title, 14, weight="600")
    yield text(left, 58, subtitle, 11, FAINT)
    for part in range(5):
        x = left + PANEL * part / 4
        yield f'<line x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{bottom}" stroke="{GRID}"/>'
        yield text(x, TOP - 13, f"{top * part / 4:g}", 10, FAINT, "middle")
    for number, row in enumerate(rows):
        height = 22 / len(metrics)
        for index, metric in enumerate(metrics):
            y = TOP + ROW * number + 4 + index * height
            found = row["results"].get(metric)
            if found is None:
                continue
            width = PANEL * found["median"] / top
            yield bar(left, y, width, height - 1, colours(row)[index])
            yield text(left + width + 5, y + height / 2 + 3, f"{found['median']:.{digits}f}",
                       10 if len(metrics) > 1 else 11, FAINT)


def draw(doc):
    rows = [row for row in doc["candidates"] if row["name"] != "veth"
            and any(m in row["results"] for panel in PANELS for m in panel[2])]
    panels = [p for p in PANELS if any(m in row["results"] for row in rows for m in p[2])]
    width = EDGE + NAMES + len(panels) * (PANEL + GAP)
    height = TOP + ROW * len(rows) + 72
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
             f'width="{width}" height="{height}" {FONT}>',
             f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>']
    for number, row in enumerate(rows):
        weight = "600" if row["name"].startswith("culvert") else "400"
        lines.append(text(EDGE + NAMES - 14, TOP + ROW * number + 19, row["title"], 12, TEXT, "end",
                          weight))
    for number, panel in enumerate(panels):
        lines += panel_lines(rows, EDGE + NAMES + number * (PANEL + GAP), *panel)
    x = EDGE
    for label, (colour, _) in LEGEND:
        lines += [bar(x, height - 47, 12, 12, colour), text(x + 18, height - 37, label, 11)]
        x += 40 + 6.2 * len(label)
    lines.append(text(EDGE, height - 15, footer(doc), 11, FAINT))
    return "\n".join([*lines, "</svg>", ""])


def footer(doc):
    machine = doc["machine"]
    words = (f"{machine['cores']} cores ({machine['cpu']}), both ends and the load on one machine, "
             f"Linux {machine['kernel']}; medians of {doc['settings']['rounds']} rounds")
    wire = [row["results"]["up"]["median"] for row in doc["candidates"]
            if row["name"] == "veth" and "up" in row["results"]]
    return words + (f"; the bare wire carries {wire[0]:.1f} Gbit/s" if wire else "")
