"""What is installed under which name, what an import costs, and that the pinned set fits the declared one."""

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tomllib
import venv
import xml.etree.ElementTree as ElementTree
import zipfile
from importlib import metadata
from pathlib import Path

import gymnasium
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import egotwin_sim

ROOT = Path(__file__).resolve().parent.parent
SIBLINGS = ("ros", "envs", "policies")
EXTRAS_OF_TEST = ("ros", "ik")  # which the extra test brings along
HEAVY = ("torch", "mujoco", "transformers", "diffusers", "av", "pyarrow", "pandas", "rclpy")


def run_python(program: str, cwd: Path = ROOT) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-c", program], cwd=cwd, env=environment, check=True, capture_output=True, text=True
    ).stdout


def python_files(folder: Path) -> list[Path]:
    skipped = {"build", "dist", "install", "log"}
    return [
        path
        for path in folder.rglob("*.py")
        if not any(part.startswith(".") or part in skipped for part in path.relative_to(folder).parts)
    ]


def modules(folder: Path) -> list[Path]:
    """What is imported; launch files are read by `ros2 launch` and installed as data."""
    return [path for path in python_files(folder) if not path.name.endswith(".launch.py")]


@pytest.fixture(scope="module")
def distribution() -> tuple[set[str], dict[str, str]]:
    """The packages that setup.py names, and the folders that it maps them to."""
    program = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "from setuptools import Distribution\n"
        "import distutils.core as core\n"
        "d = core.run_setup('setup.py', stop_after='init')\n"
        "print(repr((set(d.packages), d.package_dir)))"
    )
    return ast.literal_eval(run_python(program).splitlines()[-1])


def test_every_folder_with_modules_is_a_package_that_setup_names(distribution: tuple[set[str], dict[str, str]]) -> None:
    packages, package_dir = distribution
    expected = set()
    for top in ("egotwin_sim", *SIBLINGS):
        for path in modules(ROOT / top):
            name = ".".join(path.parent.relative_to(ROOT).parts)
            expected.add(name if top == "egotwin_sim" else f"egotwin_sim.{name}")
    assert packages == expected
    assert package_dir == {f"egotwin_sim.{sibling}": sibling for sibling in SIBLINGS}


def test_the_library_folder_holds_none_of_the_siblings() -> None:
    assert not [name for name in SIBLINGS if (ROOT / "egotwin_sim" / name).exists()]


def test_one_version_everywhere() -> None:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version and version.group(1) == egotwin_sim.__version__
    assert ElementTree.parse(ROOT / "package.xml").findtext("version") == egotwin_sim.__version__


def imported_names(path: Path) -> list[tuple[int, str]]:
    """Line and absolute module name of every import in a file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.append((node.lineno, node.module))
    return found


def test_siblings_are_imported_by_their_full_name_only() -> None:
    """`import envs` from the checkout would load a second copy of egotwin_sim.envs."""
    offences = [
        f"{path.relative_to(ROOT)}:{line}: import egotwin_sim.{name} instead"
        for path in python_files(ROOT)
        for line, name in imported_names(path)
        if name.split(".")[0] in SIBLINGS
    ]
    assert not offences


def test_import_loads_nothing_heavy_and_registers_the_environments(tmp_path: Path) -> None:
    program = (
        "import sys, gymnasium, egotwin_sim\n"
        f"assert not [name for name in {HEAVY} if name in sys.modules], 'heavy import'\n"
        "print(*[id for id in gymnasium.registry if id.startswith('EgoTwin/')])"
    )
    assert run_python(program).split() == ["EgoTwin/Dream-v0", "EgoTwin/Room-v0"]


def test_environments_are_named_by_entry_points() -> None:
    assert gymnasium.spec("EgoTwin/Dream-v0").entry_point == "egotwin_sim.envs.dream:DreamEnv"
    assert gymnasium.spec("EgoTwin/Room-v0").entry_point == "egotwin_sim.envs.room:RoomEnv"


def test_subpackages_are_attributes_imported_on_use(distribution: tuple[set[str], dict[str, str]]) -> None:
    assert {name.split(".")[1] for name in distribution[0] if "." in name} <= set(dir(egotwin_sim))
    program = "import sys, egotwin_sim\nassert 'egotwin_sim.envs' not in sys.modules\nprint(egotwin_sim.envs.__name__)"
    assert run_python(program).strip() == "egotwin_sim.envs"
    with pytest.raises(AttributeError, match="no attribute 'dreams'"):
        egotwin_sim.dreams  # noqa: B018


def declared_requirements() -> list[Requirement]:
    return [Requirement(line) for line in metadata.requires("egotwin_sim") or []]


def pinned() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def test_every_base_and_test_library_is_pinned_within_its_declared_range() -> None:
    pins = pinned()
    checked = 0
    extras = ("test", "dev", *EXTRAS_OF_TEST)
    for requirement in declared_requirements():
        if canonicalize_name(requirement.name) == "egotwin-sim":
            assert requirement.extras == set(EXTRAS_OF_TEST)
        elif requirement.marker is None or any(requirement.marker.evaluate({"extra": name}) for name in extras):
            assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement
            checked += 1
    assert checked > 20
    assert pins["torch"] == "2.13.0"


def test_the_non_commercial_library_is_in_its_own_extra_only() -> None:
    markers = [str(r.marker) for r in declared_requirements() if canonicalize_name(r.name) == "smplx"]
    assert markers == ['extra == "smplx"']


def project_scripts() -> dict[str, str]:
    """The console scripts that pyproject.toml declares."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


def test_ros_and_colcon_come_with_the_test_environment() -> None:
    """Tests that skip without them would otherwise be skipped for good."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {f"egotwin_sim[{','.join(EXTRAS_OF_TEST)}]", "colcon-common-extensions"} <= set(extras["test"])
    assert {"ros-rclpy[fastrtps]", "ros-sensor-msgs", "ros-trajectory-msgs"} <= set(extras["ros"])


def test_console_scripts_point_at_functions() -> None:
    for target in project_scripts().values():
        module, _, function = target.partition(":")
        path = ROOT.joinpath(*module.split("."))
        path = path if module.split(".")[1] not in SIBLINGS else ROOT.joinpath(*module.split(".")[1:])
        tree = ast.parse(path.with_suffix(".py").read_text())
        assert function in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)], target


def copy_of_the_checkout(target: Path) -> Path:
    """What a build reads, elsewhere: building in the tree itself would leave its traces there."""
    for name in ("egotwin_sim", *SIBLINGS, "resource", "tests"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, target)
    return target


def modules_of(names: list[str]) -> set[str]:
    return {name for name in names if name.endswith(".py")}


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A clean copy of the checkout, and the sdist and the wheel built from it (the wheel through the sdist)."""
    source = copy_of_the_checkout(tmp_path_factory.mktemp("source"))
    dist = tmp_path_factory.mktemp("dist")
    program = f"from setuptools.build_meta import build_sdist; print(build_sdist({str(dist)!r}))"
    sdist = dist / run_python(program, cwd=source).splitlines()[-1]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(dist), str(sdist)], check=True, cwd=dist
    )
    (wheel,) = dist.glob("*.whl")
    return source, sdist, wheel


@pytest.mark.slow
def test_wheel_holds_one_top_level_name_and_every_module(builds: tuple[Path, Path, Path]) -> None:
    source, _, wheel = builds
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if not re.match(r"[^/]+\.(dist-info|data)/", name)} == {"egotwin_sim"}
    expected = set()
    for top in ("egotwin_sim", *SIBLINGS):
        for path in modules(source / top):
            name = str(path.relative_to(source))
            expected.add(name if top == "egotwin_sim" else f"egotwin_sim/{name}")
    assert modules_of([name for name in names if name.startswith("egotwin_sim/")]) == expected
    data = [p for folder in ("configs", "weights") for p in (source / "egotwin_sim" / folder).rglob("*") if p.is_file()]
    assert {str(path.relative_to(source)) for path in data if path.suffix != ".py"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") or name.endswith("dist-info/LICENSE") for name in names)
    assert any(name.endswith("share/ament_index/resource_index/packages/egotwin_sim") for name in names)


@pytest.mark.slow
def test_sdist_can_be_built_from_again(builds: tuple[Path, Path, Path]) -> None:
    _, sdist, _ = builds
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"setup.py", "pyproject.toml", "package.xml", "constraints.txt", "LICENSE", "envs/__init__.py"} <= names


@pytest.mark.slow
@pytest.mark.parametrize("editable", [False, True], ids=["wheel", "editable"])
def test_installed_package_works_away_from_the_checkout(
    builds: tuple[Path, Path, Path], tmp_path: Path, editable: bool
) -> None:
    source, _, wheel = builds
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    target = ["-e", str(source)] if editable else [str(wheel)]
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", *target], check=True, cwd=tmp_path)
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    assert not [name for name in (*SIBLINGS, "tests") if (site / name).exists()]
    assert (site / "egotwin_sim").is_dir() is not editable
    # The libraries come from this environment, after the package in the order of search.
    (site / "zz_libraries.pth").write_text(str(metadata.distribution("gymnasium").locate_file("")))
    program = (
        "import egotwin_sim, egotwin_sim.envs, egotwin_sim.policies, egotwin_sim.ros\n"
        "print(egotwin_sim.__file__, egotwin_sim.envs.__file__)"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    child = subprocess.run(
        [python, "-c", program], env=environment, cwd=tmp_path, check=True, capture_output=True, text=True
    )
    home = source if editable else site
    assert all(Path(path).is_relative_to(home.resolve()) for path in child.stdout.split()), child.stdout


def colcon(command: str, source: Path, *words: str) -> None:
    """Run colcon in a copy of the checkout; it looks packages up where the ROS wheels lie."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"AMENT_PREFIX_PATH": sys.prefix, "PATH": f"{sys.prefix}/bin{os.pathsep}{os.environ['PATH']}"}
    child = subprocess.run(
        [Path(sys.prefix) / "bin" / "colcon", command, *words],
        cwd=source,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stdout + child.stderr


@pytest.mark.parametrize("words", [[], ["--symlink-install"]], ids=["copied", "symlinked"])
def test_colcon_builds_the_root_and_an_installed_node_starts(tmp_path: Path, words: list[str]) -> None:
    pytest.importorskip("colcon_core", reason="colcon is not installed; it comes with the extra test")
    pytest.importorskip("rclpy", reason="rclpy is not installed; it comes with the extra test")
    from lifecycle_msgs.srv import GetState

    from tests.ros.harness import Client, free_domain

    source = copy_of_the_checkout(tmp_path / "source")
    colcon("build", source, *words)
    prefix = source / "install" / "egotwin_sim"
    share = prefix / "share" / "egotwin_sim"
    assert {path.name for path in (prefix / "lib" / "egotwin_sim").iterdir()} == set(project_scripts())
    assert {path.name for path in (share / "launch").iterdir()} == {"live.launch.py", "dream_only.launch.py"}
    config = {"live.yaml", "fastdds_large_images.xml", "egotwin.rviz"}
    assert {path.name for path in (share / "config").iterdir()} == config
    assert (share / "package.xml").is_file()
    assert (prefix / "share" / "ament_index" / "resource_index" / "packages" / "egotwin_sim").exists()

    domain, namespace = free_domain(), f"/installed_{os.getpid()}"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"AMENT_PREFIX_PATH": sys.prefix, "ROS_DOMAIN_ID": str(domain), "ROS_LOG_DIR": str(tmp_path)}
    setup = f"source {source}/install/local_setup.bash && exec "
    where = subprocess.run(
        ["bash", "-c", setup + f"{sys.executable} -c 'import egotwin_sim.ros; print(egotwin_sim.ros.__file__)'"],
        env=environment, cwd=tmp_path, check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    assert Path(where).resolve().is_relative_to(source.resolve())
    with (tmp_path / "node.log").open("wb") as log:
        node = subprocess.Popen(
            ["bash", "-c", setup + f"{prefix}/lib/egotwin_sim/policy_node --ros-args -r __ns:={namespace} "
             "-p policy:=\"''\" -p autostart:=true"],
            env=environment, cwd=tmp_path, stdout=log, stderr=log,
        )  # fmt: skip
    client = Client(domain, namespace)
    try:

        def active() -> bool:
            answer = client.call(GetState, "policy/get_state", GetState.Request())
            return bool(answer.current_state.label == "active")

        client.until(active, "the installed node")
        node.send_signal(signal.SIGINT)
        assert node.wait(60) == 0, (tmp_path / "node.log").read_text()
    finally:
        client.close()
        node.kill()
