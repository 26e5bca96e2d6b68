"""Rectified flow and its networks against every check of flow_checks."""

import pytest

from tests.invariants import flow_checks, planned_flow_checks


def _named(check):
    return check.__name__[6:]


@pytest.mark.parametrize(
    "check", (*flow_checks.TASK_CHECKS, *planned_flow_checks.TASK_CHECKS), ids=_named
)
def test_the_task(check):
    check()


@pytest.fixture(scope="module")
def networks():
    return flow_checks.Networks()


@pytest.mark.parametrize("check", flow_checks.NETWORK_CHECKS, ids=_named)
def test_the_networks(check, networks):
    check(networks)


def test_gradients_reach_every_parameter(networks):
    flow_checks.check_gradients_reach_every_parameter(networks)


@pytest.fixture(scope="module")
def parts():
    return planned_flow_checks.Parts()


@pytest.mark.parametrize("check", planned_flow_checks.PART_CHECKS, ids=_named)
def test_the_parts_behind_a_plan(check, parts):
    check(parts)
