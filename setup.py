"""The package list: egotwin_sim, and the sibling folders that are imported as egotwin_sim.{ros,envs,policies}."""

from glob import glob
from pathlib import Path

from setuptools import find_packages, setup

NAME = "egotwin_sim"
SIBLINGS = ("ros", "envs", "policies")

packages = [NAME] + [f"{NAME}.{package}" for package in find_packages(NAME)]
package_dir = {}
# `colcon build --symlink-install` stages first-level packages only; there egotwin_sim/__init__.py finds the siblings.
if not Path(__file__).is_symlink():
    for sibling in SIBLINGS:
        packages += [f"{NAME}.{sibling}"] + [f"{NAME}.{sibling}.{package}" for package in find_packages(sibling)]
        package_dir[f"{NAME}.{sibling}"] = sibling  # no mapping of NAME to itself: colcon refuses it

data_files = [
    ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
    (f"share/{NAME}", ["package.xml", "pyproject.toml", "README.md"]),  # symlink builds read the project table here
]
for folder, pattern in (("launch", "ros/launch/*.launch.py"), ("config", "ros/config/*.*")):
    data_files.append((f"share/{NAME}/{folder}", sorted(glob(pattern))))

setup(
    packages=packages,
    package_dir=package_dir,
    package_data={NAME: ["py.typed", "configs/*.yaml", "weights/**/*", "body/retargeting/tables/*.yaml"]},
    include_package_data=False,
    python_requires=">=3.11",
    license="Apache-2.0",
    data_files=data_files,
)
