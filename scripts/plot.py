"""Pictures for the README as SVG: medians of scripts/bench, and a trace of `orlop --timeline`.

  scripts/bench --plot FILE ...            the medians of what was measured
  python3 scripts/plot.py TRACE FILE       a trace

The pictures follow the reader's choice of light or dark colours.
"""

import json
import sys
from xml.sax.saxutils import escape

WIDTH = 760
STYLE = """
text { font: 13px ui-sans-serif, system-ui, sans-serif; fill: #1f2328; }
.title { font-weight: 600; }
.small { font-size: 11px; fill: #59636e; }
.c0 { fill: #1a7f64; } .c1 { fill: #8c959f; } .c2 { fill: #afb8c1; } .c3 { fill: #d0d7de; }
.line { stroke: #d1d9e0; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; } .small { fill: #9198a1; }
  .c0 { fill: #3fb68b; } .c1 { fill: #818b98; } .c2 { fill: #5c6672; } .c3 { fill: #3d444d; }
  .line { stroke: #3d444d; }
}
"""


class Picture:
    """The elements of a picture, from top to bottom."""

    def __init__(self, label):
        self.label = label
        self.parts = []
        self.y = 24

    def text(self, x, text, kind="", anchor="start"):
        form = '<text x="%g" y="%g" class="%s" text-anchor="%s">%s</text>'
        self.parts.append(form % (x, self.y, kind, anchor, escape(text)))

    def bar(self, x, width, kind, height=12):
        form = '<rect x="%.1f" y="%.1f" width="%.1f" height="%d" rx="1.5" class="%s"/>'
        self.parts.append(form % (x, self.y - height + 2, max(width, 1), height, kind))

    def line(self, x, top, bottom):
        form = '<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" class="line"/>'
        self.parts.append(form % (x, x, top, bottom))

    def write(self, path):
        height = self.y + 14
        with open(path, "w") as file:
            size = 'viewBox="0 0 %d %d" width="%d" height="%d"' % (WIDTH, height, WIDTH, height)
            label = escape(self.label, {'"': "&quot;"})
            file.write('<svg xmlns="http://www.w3.org/2000/svg" %s role="img" aria-label="%s">\n' % (size, label))
            file.write("<style>%s</style>\n" % STYLE)
            file.write("\n".join(self.parts) + "\n</svg>\n")


def medians(path, values, versions, note):
    """Draws bars of medians: `values` has for each operation the milliseconds of each runtime."""
    listed = {op: ", ".join("%s %.2f ms" % pair for pair in by.items()) for op, by in values.items()}
    spoken = "; ".join("%s: %s" % pair for pair in listed.items())
    picture = Picture("Time of a command in ms. " + spoken)
    largest = max(value for by in values.values() for value in by.values())
    left, room = 90, WIDTH - 90 - 150
    picture.text(0, "Time of a command, median in ms", "title")
    picture.y += 10
    for op, by in values.items():
        picture.y += 12
        for number, (name, value) in enumerate(by.items()):
            picture.y += 17
            if number == 0:
                picture.text(0, op)
            picture.bar(left, value / largest * room, "c%d" % min(number, 3))
            said = "%.2f  %s %s" % (value, name, versions.get(name, ""))
            picture.text(left + value / largest * room + 6, said, "" if number == 0 else "small")
    picture.y += 26
    picture.text(0, note, "small")
    picture.write(path)


def timeline(trace, path):
    """Draws the events of a trace, a row for each, grouped by process."""
    events = trace["traceEvents"]
    threads = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    title = next(event["args"]["name"] for event in events if event["name"] == "process_name")
    spans = sorted((event for event in events if event["ph"] == "X"), key=lambda event: (event["tid"], event["ts"]))
    whole = max(event["ts"] + event["dur"] for event in spans)
    picture = Picture("%s took %.2f ms" % (title, whole / 1000))
    left, room = 210, WIDTH - 210 - 70
    picture.text(0, "%s: %.2f ms" % (title, whole / 1000), "title")
    top = picture.y + 12
    for thread, name in threads.items():
        picture.y += 24
        picture.text(0, name, "title")
        for event in (event for event in spans if event["tid"] == thread):
            picture.y += 15
            part = event["cat"] == "part"
            picture.text(24 if part else 12, event["name"], "small")
            begin, length = event["ts"] / whole * room, event["dur"] / whole * room
            picture.bar(left + begin, length, "c1" if part else "c0", 10)
            picture.text(left + begin + length + 5, "%.3f" % (event["dur"] / 1000), "small")
    # A line at each tenth, behind the bars.
    lines, picture.parts = picture.parts, []
    for tenth in range(11):
        picture.line(left + room * tenth / 10, top, picture.y + 4)
    picture.parts += lines
    picture.write(path)


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        timeline(json.load(file), sys.argv[2])
