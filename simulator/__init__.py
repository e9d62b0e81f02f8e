"""A labelled viewer population: honest habits, honest accidents and staged misbehaviour, seeded and lazy.

for labelled in simulator.generate(SimulationConfig(seed=7, events=10_000)):
    print(to_json_line(labelled, labels=True))
"""

from simulator.config import SCENARIOS, SimulationConfig
from simulator.describe import Summary, describe
from simulator.jsonlines import Recorded, Unreadable, from_json, read_line, read_lines, to_json_line
from simulator.run import LabelledEvent, generate, records
from simulator.world import Labelled

__all__ = [
    "SCENARIOS",
    "Labelled",
    "LabelledEvent",
    "Recorded",
    "SimulationConfig",
    "Summary",
    "Unreadable",
    "describe",
    "from_json",
    "generate",
    "read_line",
    "read_lines",
    "records",
    "to_json_line",
]
