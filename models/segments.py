"""Which segment a user belongs to."""

from __future__ import annotations

from typing import Literal

from rules.behaviour import Segments
from tables.profile import Profile
from tables.windows import EVENTS, W30D

Segment = Literal["new", "normal", "power", "inactive", "dormant", "suspicious"]


def segment_of(profile: Profile, rules: Segments) -> Segment:
    """The first that fits of suspicious, new, dormant, inactive, power, normal; at the user's clock, the latest event included."""
    clock_s = profile.counts.clock_s
    alarms = profile.alarms_s
    if len(alarms) >= rules.suspicious.min_alarms and alarms[-rules.suspicious.min_alarms] >= clock_s - rules.suspicious.within_s:
        return "suspicious"
    if clock_s - profile.first_s < rules.new.max_age_s and profile.events < rules.new.max_events:
        return "new"
    if profile.absence_s >= rules.dormant.min_absence_s and clock_s - profile.returned_s < rules.dormant.for_s:
        return "dormant"
    if profile.absence_s >= rules.inactive.min_absence_s and clock_s - profile.returned_s < rules.inactive.for_s:
        return "inactive"
    if profile.counts.totals[W30D][EVENTS] >= rules.power.min_events_30d:
        return "power"
    return "normal"
