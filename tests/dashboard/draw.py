"""Draws the dashboard: its panels, where its JSON has them, with what Prometheus answered, as one page of HTML and SVG."""

import html
import math
import time

WIDTH = 1440
CELL_H, GAP = 28, 6
PALETTE = ["#73BF69", "#F2CC0C", "#8AB8FF", "#FF780A", "#F2495C", "#5794F2", "#B877D9", "#8F6BFF", "#37872D", "#FADE2A",
           "#447EBC", "#C15C17", "#890F02", "#0A437C", "#6D1F62", "#584477"]
NAMED = {"green": "#73BF69", "orange": "#FF9830", "red": "#F2495C", "yellow": "#FADE2A", "blue": "#5794F2"}
SUFFIXES = {"cps": " c/s", "reqps": " req/s"}
GRID, TEXT, DIM, BACK, PANEL = "#2c3235", "#d8d9da", "#9a9ea5", "#111217", "#181b1f"


def short(value, digits=3):
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        for power, name in ((1e9, " Bil"), (1e6, " Mil"), (1e3, " K")):
            if abs(value) >= power:
                return f"{value / power:.{digits}g}{name}"
    text = f"{value:.{digits}g}"
    return f"{value:.5f}".rstrip("0") if "e" in text else text


def shown(value, unit):
    """A number in a Grafana unit."""
    if value is None or math.isnan(value):
        return "-"
    if unit in ("s", "dtdurations"):
        for least, divisor, name in ((86_400, 86_400, "d"), (3_600, 3_600, "h"), (60, 60, "min"), (1, 1, "s"),
                                     (1e-3, 1e-3, "ms")):
            if abs(value) >= least:
                return f"{value / divisor:.3g} {name}"
        return f"{value * 1e6:.3g} µs" if value else "0 s"
    if unit == "percentunit":
        return f"{value * 100:.3g}%"
    if unit == "bytes":
        for power, name in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
            if abs(value) >= 1 << power:
                return f"{value / (1 << power):.3g} {name}"
        return f"{value:.0f} B"
    return short(value) + SUFFIXES.get(unit, "")


def ticks(most, unit):
    """Round places on an axis from 0."""
    if most <= 0:
        return [0, 1]
    base = 1024 ** int(math.log(most, 1024)) if unit == "bytes" and most >= 1 else 1
    rough = most / base / 4
    power = 10 ** math.floor(math.log10(rough))
    step = next(one * power for one in (1, 2, 2.5, 5, 10) if one * power >= rough) * base
    return [step * n for n in range(int(math.ceil(most / step - 1e-9)) + 1)]


def text(x, y, words, color=DIM, size=10, anchor="start", weight=400):
    return (f'<text x="{x:.1f}" y="{y:.1f}" fill="{color}" font-size="{size}" text-anchor="{anchor}" '
            f'font-weight="{weight}">{html.escape(words)}</text>')


def clipped(words, width, size=10):
    most = max(4, int(width / size / 0.56))
    return words if len(words) <= most else words[: most - 1] + "…"


def override(panel, name, target):
    """A field's own properties."""
    found = {}
    for one in panel.get("fieldConfig", {}).get("overrides", []):
        by, value = one["matcher"]["id"], one["matcher"].get("options")
        if (by == "byName" and value == name) or (by == "byFrameRefID" and value == target):
            found |= {each["id"]: each.get("value") for each in one["properties"]}
    return found


def paths(line, x, y):
    """Stretches of points without a hole; a hole is a missing step."""
    parts, part, last, step = [], [], None, None
    gaps = [b[0] - a[0] for a, b in zip(line, line[1:])]
    step = min(gaps) if gaps else 1
    for at, low, high in line:
        if math.isnan(high) or (last is not None and at - last > 1.5 * step):
            if part:
                parts.append(part)
            part = []
        if not math.isnan(high):
            part.append((x(at), y(low), y(high)))
        last = at
    return parts + ([part] if part else [])


def timeseries(panel, series, w, h, begin, end):
    defaults = panel["fieldConfig"]["defaults"]
    unit, custom = defaults.get("unit", "short"), defaults.get("custom", {})
    is_stacked = custom.get("stacking", {}).get("mode") == "normal"
    columns = max(1, int(w // 330))
    rows = min(math.ceil(len(series) / columns), max(2, int((h - 26) * 0.42 / 13)))
    visible = min(len(series), rows * columns)
    left, right, top = 54, 8, 26
    bottom = h - 18 - 13 * rows - 8
    totals, lines = {}, []
    for one in series:
        line = []
        for at, value in one["values"]:
            low = totals.get(at, 0) if is_stacked else 0
            if is_stacked and not math.isnan(value):
                totals[at] = low + value
            line.append((at, low, low + value))
        lines.append(line)
    rights = [override(panel, one["name"], one["target"]) for one in series]
    is_right = [each.get("custom.axisPlacement") == "right" for each in rights]

    def scale(side):
        values = [high for line, is_other in zip(lines, is_right) if is_other == side
                  for _, _, high in line if not math.isnan(high)]
        most = max(values, default=0)
        if not side and defaults.get("max") is not None:
            most = max(most, defaults["max"])
        side_unit = next((each["unit"] for each, other in zip(rights, is_right) if other and "unit" in each), unit) \
            if side else unit
        places = ticks(most, side_unit)
        return places, side_unit, lambda value: bottom - (bottom - top) * value / places[-1]

    out = []
    places, _, y = scale(False)
    for place in places:
        out.append(f'<path d="M{left} {y(place):.1f}H{w - right}" stroke="{GRID}"/>')
        out.append(text(left - 5, y(place) + 3, shown(place, unit), anchor="end"))
    y_right = y
    if any(is_right):
        right = 48
        far, far_unit, y_right = scale(True)
        for place in far:
            out.append(text(w - right + 5, y_right(place) + 3, shown(place, far_unit)))

    def x(at):
        return left + (w - left - right) * (at - begin) / (end - begin)

    minute = 60 * math.ceil((end - begin) / 60 / max(2, (w - left) // 110))
    for at in range(int(begin // minute + 1) * minute, int(end) + 1, minute):
        out.append(f'<path d="M{x(at):.1f} {top}V{bottom}" stroke="{GRID}"/>')
        out.append(text(x(at), bottom + 13, time.strftime("%H:%M", time.gmtime(at)), anchor="middle"))
    for n, line in enumerate(lines):
        color, scale_y = PALETTE[n % len(PALETTE)], y_right if is_right[n] else y
        for part in paths(line, x, scale_y):
            upper = " ".join(f"{a:.1f},{c:.1f}" for a, _, c in part)
            lower = " ".join(f"{a:.1f},{b:.1f}" for a, b, _ in reversed(part))
            out.append(f'<polygon points="{upper} {lower}" fill="{color}" fill-opacity="{custom.get("fillOpacity", 0) / 100}"/>')
            out.append(f'<polyline points="{upper}" fill="none" stroke="{color}" stroke-width="1.2"/>')
    # What there is no room for is what has been least; in Grafana one scrolls to it.
    def most_of(n):
        return max((value for _, value in series[n]["values"] if not math.isnan(value)), default=-1)

    named = sorted(sorted(range(len(series)), key=most_of, reverse=True)[:visible])
    for place, n in enumerate(named):
        column, row = divmod(place, rows)
        width = (w - 16) / columns
        at_x, at_y = 8 + column * width, h - 13 * rows + 13 * row + 5
        values = [value for _, value in series[n]["values"] if not math.isnan(value)]
        its = rights[n].get("unit", unit)
        last, most = shown(values[-1] if values else None, its), shown(max(values, default=None), its)
        suffix = SUFFIXES.get(its, "")
        told = f"{last.removesuffix(suffix)} · {most}"
        if place == visible - 1 and len(series) > visible:
            out.append(text(at_x + 14, at_y, f"and {len(series) - visible + 1} more", DIM))
            continue
        out.append(f'<rect x="{at_x}" y="{at_y - 5}" width="9" height="3" fill="{PALETTE[n % len(PALETTE)]}"/>')
        out.append(text(at_x + 14, at_y, clipped(series[n]["name"], width - 34 - 5.6 * len(told)), TEXT))
        out.append(text(at_x + width - 8, at_y, told, DIM, anchor="end"))
    return "".join(out)


def stat(panel, series, w, h, begin, end):
    defaults = panel["fieldConfig"]["defaults"]
    values = [(at, value) for one in series for at, value in one["values"] if not math.isnan(value)]
    last = values[-1][1]
    color = TEXT
    for step in defaults.get("thresholds", {}).get("steps", []):
        if step["value"] is None or last >= step["value"]:
            color = NAMED.get(step["color"], step["color"])
    most = max(value for _, value in values) or 1
    points = " ".join(f"{w * (at - begin) / (end - begin):.1f},{h - 1 - (h - 62) * value / most:.1f}" for at, value in values)
    first_x = w * (values[0][0] - begin) / (end - begin)
    last_x = w * (values[-1][0] - begin) / (end - begin)
    return (f'<polygon points="{first_x:.1f},{h} {points} {last_x:.1f},{h}" fill="{color}" fill-opacity="0.15"/>'
            f'<polyline points="{points}" fill="none" stroke="{color}" stroke-opacity="0.6"/>'
            + text(w / 2, 54, shown(last, defaults.get("unit", "short")), color, 24, "middle", 600))


def heatmap(panel, series, w, h, begin, end):
    unit = panel["options"].get("yAxis", {}).get("unit", "short")
    rows = sorted(series, key=lambda one: float(one["labels"]["le"]))
    times = sorted({at for one in rows for at, _ in one["values"]})
    below, cells = {}, []
    for row, one in enumerate(rows):
        # The buckets of Prometheus count everything below.
        for at, value in one["values"]:
            cells.append((at, row, max(0, value - below.get(at, 0))))
            below[at] = value
    used = [row for _, row, count in cells if count > 0]
    low, high = max(0, min(used) - 1), min(len(rows) - 1, max(used) + 1)
    most = max(count for *_, count in cells)
    left, top, bottom = 54, 26, h - 22
    height, width = (bottom - top) / (high - low + 1), (w - left - 8) / len(times)
    out = []
    for at, row, count in cells:
        if low <= row <= high and count > 0:
            x, y = left + width * times.index(at), bottom - height * (row - low + 1)
            out.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width + 0.3:.1f}" height="{height - 0.5:.1f}" '
                       f'fill="#FF9830" fill-opacity="{0.08 + 0.92 * math.sqrt(count / most):.2f}"/>')
    for row in range(low, high + 1, max(1, (high - low + 1) // 8)):
        label = rows[row]["labels"]["le"]
        words = "more" if label == "+Inf" else shown(float(label), unit)
        out.append(text(left - 5, bottom - height * (row - low + 1) + 3, words, anchor="end"))
    for part in range(1, 4):
        at = begin + (end - begin) * part / 4
        out.append(text(left + (w - left - 8) * part / 4, bottom + 14, time.strftime("%H:%M:%S", time.gmtime(at)), anchor="middle"))
    return "".join(out)


def table(panel, series, w, h, *_):
    """One query's answer: a row for each series, a column for each label and one for the value."""
    organize = next((one["options"] for one in panel.get("transformations", []) if one["id"] == "organize"), {})
    hidden, order = organize.get("excludeByName", {}), organize.get("indexByName", {})
    names = organize.get("renameByName", {})
    rows = [{**one["labels"], "Value": one["values"][-1][1]} for one in series]
    columns = sorted({key for row in rows for key in row if not hidden.get(key)}, key=lambda key: (order.get(key, 99), key))
    sorts = [one["displayName"] for one in reversed(panel["options"].get("sortBy", []))]
    for sort in sorts:
        rows.sort(key=lambda row: next(str(row.get(key)) for key in columns if names.get(key, key) == sort))
    out, width = [], (w - 16) / len(columns)
    for n, column in enumerate(columns):
        out.append(text(10 + n * width, 42, names.get(column, column), "#6E9FFF", 11, weight=600))
    for line, row in enumerate(rows):
        y = 62 + 18 * line
        if y > h - 4:
            break
        out.append(f'<path d="M8 {y - 14}H{w - 8}" stroke="{GRID}"/>')
        for n, column in enumerate(columns):
            value = row.get(column, "")
            unit = override(panel, names.get(column, column), None).get("unit", "short")
            words = shown(value, unit) if isinstance(value, float) else str(value)
            out.append(text(10 + n * width, y, clipped(words, width, 11), TEXT, 11))
    return "".join(out)


DRAWN = {"timeseries": timeseries, "stat": stat, "heatmap": heatmap, "table": table}


def is_empty(series):
    return all(math.isnan(value) for one in series for _, value in one["values"])


def page(dashboard, told, begin, end, footer):
    """The whole of it, and its height."""
    column, out = (WIDTH - 16) / 24, []
    height = 54 + max(one["panel"]["gridPos"]["y"] + one["panel"]["gridPos"]["h"] for one in told) * (CELL_H + GAP) + 30
    span = f"{time.strftime('%H:%M:%S', time.gmtime(begin))} to {time.strftime('%H:%M:%S', time.gmtime(end))} UTC"
    out.append(text(12, 32, dashboard["title"], TEXT, 20, weight=600))
    out.append(text(WIDTH - 12, 32, f"Instance: All   ·   {span}", DIM, 13, "end"))
    for one in told:
        panel, series, at = one["panel"], one["series"], one["panel"]["gridPos"]
        x, y = 8 + at["x"] * column, 50 + at["y"] * (CELL_H + GAP)
        w, h = at["w"] * column - GAP, at["h"] * (CELL_H + GAP) - GAP
        out.append(f'<g transform="translate({x:.1f} {y:.1f})">')
        if panel["type"] == "row":
            out.append(text(4, 20, "⌄ " + panel["title"], TEXT, 14, weight=600))
        else:
            out.append(f'<rect width="{w:.1f}" height="{h:.1f}" rx="2" fill="{PANEL}" stroke="#25282d"/>')
            out.append(text(8, 17, clipped(panel["title"], w - 12, 12), TEXT, 12, weight=600))
            if is_empty(series):
                out.append(text(w / 2, h / 2, "No data", DIM, 14, "middle"))
            else:
                out.append(DRAWN[panel["type"]](panel, series, w, h, begin, end))
        out.append("</g>")
    out.append(text(12, height - 12, footer, DIM, 11))
    return (f'<!doctype html><meta charset="utf-8"><style>*{{margin:0}}body{{background:{BACK}}}svg{{display:block;'
            f'font-family:"DejaVu Sans",sans-serif}}</style><svg width="{WIDTH}" height="{height}">{"".join(out)}</svg>'), height
