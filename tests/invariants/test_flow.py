"""Rectified flow and its networks against every check of flow_checks."""

import pytest

from tests.invariants import flow_checks


@pytest.mark.parametrize("check", flow_checks.TASK_CHECKS, ids=lambda check: check.__name__[6:])
def test_the_task(check):
    check()


@pytest.fixture(scope="module")
def networks():
    return flow_checks.Networks()


@pytest.mark.parametrize("check", flow_checks.NETWORK_CHECKS, ids=lambda check: check.__name__[6:])
def test_the_networks(check, networks):
    check(networks)


def test_gradients_reach_every_parameter(networks):
    flow_checks.check_gradients_reach_every_parameter(networks)
