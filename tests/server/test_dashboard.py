"""contrib/grafana.json: what its panels ask for is what the server tells."""
import json
import os
import re
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from server import ServerCase  # noqa: E402
from common import ROOT  # noqa: E402


class Dashboard(ServerCase):
    def test_every_metric_is_there(self):
        with open(os.path.join(ROOT, "contrib", "grafana.json")) as file:
            dashboard = json.load(file)
        asked = {name: target["expr"] for panel in dashboard["panels"] for target in panel["targets"]
                 for name in re.findall(r"ferrum_\w+", target["expr"])}
        self.server.request("GET", "/health")  # so that there is a request to tell of
        text = self.server.request("GET", "/metrics")[2].decode()
        told = set(re.findall(r"^(ferrum_\w+)", text, re.M))
        types = dict(re.findall(r"^# TYPE (ferrum_\w+) (\w+)$", text, re.M))
        self.assertGreater(len(asked), 10)
        self.assertEqual(set(asked) - told, set())
        for name, expression in asked.items():
            counts = types.get(name.removesuffix("_bucket")) in ("counter", "histogram")
            self.assertEqual(f"rate({name}{{" in expression, counts, expression)

    def test_panels_have_a_place_each(self):
        with open(os.path.join(ROOT, "contrib", "grafana.json")) as file:
            panels = json.load(file)["panels"]
        self.assertEqual(len({p["id"] for p in panels}), len(panels))
        taken = [(x, y) for p in panels for at in [p["gridPos"]] for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])]
        self.assertEqual((len(set(taken)), max(x for x, _ in taken)), (len(taken), 23))


if __name__ == "__main__":
    unittest.main()
