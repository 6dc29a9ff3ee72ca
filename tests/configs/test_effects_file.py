"""Thresholds are of features that there are, each with the unit that the feature has."""

from __future__ import annotations

from otel_control_gym.engine.campaigns.effects import EffectSettings
from otel_control_gym.engine.campaigns.readings import SATISFACTION
from otel_control_gym.engine.configuration_files import load, packaged_names
from otel_control_gym.projections.schemas import EDGE_FEATURES, NODE_FEATURES


def test_every_threshold_has_the_unit_of_its_feature_and_a_reason() -> None:
    units = {column.name: column.unit for table in (NODE_FEATURES, EDGE_FEATURES) for column in table.columns}
    for name in packaged_names("effects"):
        settings, _ = load("effects", name, EffectSettings)
        for feature, threshold in settings.features.items():
            assert threshold.unit == units.get(feature, "1" if feature == SATISFACTION else None), feature
            assert threshold.reason
            assert threshold.absolute > 0
        assert set(settings.user_facing) <= set(settings.features)
