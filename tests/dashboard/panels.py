"""The dashboard's JSON: what each panel asks Prometheus, and what it is answered."""

import json
import re
import urllib.error
import urllib.parse
import urllib.request


class Prometheus:
    """Its HTTP API."""

    def __init__(self, url):
        self.url = url

    def ask(self, path, **parameters):
        try:
            url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise SystemExit(f"dashboard: {parameters}: {error.read().decode()}") from error


def resolved(text, step_s, scrape_s):
    """A query as Grafana sends it when all instances are chosen."""
    rate_interval = max(step_s + scrape_s, 4 * scrape_s)
    text = text.replace("$__rate_interval", f"{rate_interval}s").replace("$__interval", f"{step_s}s")
    text = text.replace("$instance", ".*")
    if "$" in text:
        raise SystemExit(f"dashboard: a variable that is not known here: {text}")
    return text


def legend(template, labels):
    """A series' name."""
    if template:
        return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), template).strip()
    return ", ".join(f"{name}={value}" for name, value in sorted(labels.items())) or "Value"


def answers(dashboard, prometheus, begin, end, step_s, scrape_s):
    """Every panel with what its targets are answered, in the order of the file."""
    variables = [one["definition"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    for variable in variables:
        metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable).groups()
        found = prometheus.ask("series", **{"match[]": metric, "start": begin, "end": end})
        if not any(label in series for series in found):
            raise SystemExit(f"dashboard: {variable} has no values")
    told = []
    for panel in dashboard["panels"]:
        series = []
        for target in panel.get("targets", []):
            query = resolved(target["expr"], step_s, scrape_s)
            if target.get("instant"):
                found = prometheus.ask("query", query=query, time=end)
                points = [(one["metric"], [one["value"]]) for one in found["result"]]
            else:
                found = prometheus.ask("query_range", query=query, start=begin, end=end, step=step_s)
                points = [(one["metric"], one["values"]) for one in found["result"]]
            for labels, values in points:
                values = [(at, float(value)) for at, value in values]
                name = legend(target.get("legendFormat", ""), labels)
                series.append({"target": target["refId"], "labels": labels, "name": name, "values": values})
        told.append({"panel": panel, "series": series})
    return told
