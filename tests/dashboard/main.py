#!/usr/bin/env python3
"""Draws deploy/grafana/switchboard.json out of a real run: docs/dashboard.png. `./tests/run dashboard` has what it needs.

Two edges and two instances of all services run on Postgres and NATS; load and people of all protocols come; instances and
NATS are stopped and started again; a real Prometheus looks on. Then each panel's queries are asked of Prometheus, and drawn
where the dashboard has them. It is not drawn by Grafana: what its own pictures would look like, this cannot tell.
"""

import argparse
import asyncio
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from PIL import Image

import draw
import panels

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRATCH = ROOT / "target/dashboard"
COLORS = 256
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")


def say(line):
    print(f"dashboard: {line}", file=sys.stderr)


def incidents(stage, seconds, is_over):
    """What goes wrong, and when, as shares of the run."""
    def bounce(name, how, pause_s):
        say(f"{name} is {'killed' if how == signal.SIGKILL else 'stopped'}, and back after {pause_s} s")
        stage.end(name, how)
        is_over.wait(pause_s)
        if name == "nats":
            stage.nats()
        else:
            stage.switchboard(name)
            stage.is_ready(name)

    plan = [(0.25, "services-2", signal.SIGKILL, 6), (0.45, "services-2", signal.SIGTERM, 2),
            (0.6, "nats", signal.SIGKILL, 8), (0.78, "edge-2", signal.SIGTERM, 2)]
    begun = time.monotonic()
    for share, name, how, pause_s in plan:
        if is_over.wait(max(0, begun + share * seconds - time.monotonic())):
            return
        bounce(name, how, pause_s)


def run(seconds):
    """A run, and what Prometheus answers about it."""
    import stage as stages
    from visitors import Visitors

    dashboard = json.loads((ROOT / "deploy/grafana/switchboard.json").read_text())
    with tempfile.TemporaryDirectory() as directory:
        say("starting")
        stage = stages.Stage(directory, os.environ["SWITCHBOARD_TEST_POSTGRES_URL"])
        try:
            stage.provision()
            session = stage.grpc("switchboard.identity.v1.IdentityService/CreateSession", '{"user_id": "5"}')
            stage.load("edge-2", "soak", "--minutes", "60", "--pairs", "25", "--rate", "120", "--visits", "4")
            # Once and no more: a second one would be told at once where the first one ended.
            stage.load("edge-1", "walk", "--therapists", "20", "--hertz", "5", "--seconds", str(seconds + 600))
            stage.load("edge-1", "notify", "--users", "20", "--rate", "20", "--seconds", "30")
            begin = int(time.time())
            is_over = threading.Event()
            trouble = threading.Thread(target=incidents, args=(stage, seconds, is_over))
            trouble.start()
            try:
                asyncio.run(Visitors(stage, json.loads(session)["sessionKey"]).all(seconds))
            finally:
                is_over.set()
                trouble.join()
            end = int(time.time())
            step = max(stages.SCRAPE_S, (end - begin) // 150)
            prometheus = panels.Prometheus(stage.prometheus_url)
            told = panels.answers(dashboard, prometheus, begin, end, step, stages.SCRAPE_S)
            version = prometheus.ask("status/buildinfo")["version"]
            fired = prometheus.ask("query", query=f'count by (alertname) (max_over_time(ALERTS{{alertstate="firing"}}[{end - begin}s]))', time=end)
            names = sorted(one["metric"]["alertname"] for one in fired["result"])
            say(f"alerts that fired: {', '.join(names) or 'none'}")
        finally:
            stage.close()
    return {"begin": begin, "end": end, "told": told, "prometheus": version}


def picture(answered, target):
    dashboard = json.loads((ROOT / "deploy/grafana/switchboard.json").read_text())
    # Where panels are and how they look is the file's; what they were answered is the run's.
    known = {panel["id"]: panel for panel in dashboard["panels"]}
    told = [{**one, "panel": known[one["panel"]["id"]]} for one in answered["told"]]
    empty = [one["panel"]["title"] for one in told if one["panel"]["type"] != "row" and draw.is_empty(one["series"])]
    footer = (f"Drawn by tests/dashboard, not by Grafana, out of deploy/grafana/switchboard.json and Prometheus "
              f"{answered['prometheus']}. Beside a name: the last value · the highest. A debug build on a busy machine: no measurement.")
    page, height = draw.page(dashboard, told, answered["begin"], answered["end"], footer)
    SCRATCH.mkdir(parents=True, exist_ok=True)
    (SCRATCH / "dashboard.html").write_text(page)
    chromium = next(filter(None, map(shutil.which, CHROMIUMS)), None) or sys.exit("dashboard: there is no Chromium")
    subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-lcd-text",
         f"--window-size={draw.WIDTH},{height}", f"--screenshot={SCRATCH / 'dashboard.png'}", (SCRATCH / "dashboard.html").as_uri()],
        check=True, capture_output=True)
    # A palette is a quarter of the size; this way of choosing it keeps the colours of thin lines apart.
    with Image.open(SCRATCH / "dashboard.png") as drawn:
        few = drawn.convert("RGB").quantize(COLORS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few.save(target, optimize=True)
    say(f"wrote {target}, {target.stat().st_size >> 10} KiB; {len(told)} panels and rows")
    if empty:
        sys.exit(f"dashboard: panels without data: {', '.join(empty)}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=int, default=180, help="how long it runs")
    arguments.add_argument("--redraw", action="store_true", help="draw what the last run answered")
    chosen = arguments.parse_args()
    file = SCRATCH / "answers.json"
    if not chosen.redraw:
        answered = run(chosen.seconds)
        SCRATCH.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(answered))
    picture(json.loads(file.read_text()), ROOT / "docs/dashboard.png")


if __name__ == "__main__":
    main()
