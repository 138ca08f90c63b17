"""The parameters' tables, which need no ROS."""

from dataclasses import asdict

import pytest

from egotwin_sim.errors import UserError
from egotwin_sim.ros.configuration import CONFIGS, checked, described


@pytest.mark.parametrize("name", CONFIGS)
def test_every_parameter_is_described_and_its_default_fits(name: str) -> None:
    config = CONFIGS[name]
    for key, (default, about) in described(config).items():
        assert about.text.endswith("."), key
        assert isinstance(default, str | bool) or about.low is not None, f"{key} has no range"
    assert checked(config, asdict(config())) == config()


def test_what_is_out_of_range_is_refused_with_the_range() -> None:
    values = asdict(CONFIGS["mujoco_bridge"]())
    with pytest.raises(UserError, match=r"assist is 1.5; expected 0 to 1"):
        checked(CONFIGS["mujoco_bridge"], values | {"assist": 1.5})
    with pytest.raises(UserError, match="mode is 'fly'; expected one of kinematic, assisted"):
        checked(CONFIGS["mujoco_bridge"], values | {"mode": "fly"})
