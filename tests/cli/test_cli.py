"""The command line: listing without loading, one line for a user's mistake, and what the doctor says."""

import errno
import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import typer
from safetensors import SafetensorError
from safetensors.numpy import save_file

from egotwin_sim import __version__
from egotwin_sim.cli import doctor
from egotwin_sim.cli.main import SUBCOMMANDS, Subcommand, main
from egotwin_sim.errors import UserError


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_info:
        main(list(arguments))
    return int(exit_info.value.code or 0)


def test_help_lists_every_subcommand_and_loads_none() -> None:
    program = (
        "import sys\n"
        "from egotwin_sim.cli.main import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        "heavy = {'torch', 'mujoco', 'transformers', 'egotwin_sim.cli.train', 'egotwin_sim.cli.data'}\n"
        "loaded = heavy & {*sys.modules}\n"
        "assert not loaded, loaded"
    )
    out = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert all(name in out for name in SUBCOMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out.strip() == f"egotwin_sim {__version__}"


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(name, "--help") == 0
    assert f"egotwin {name}" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--nonsense"], ["demos"], ["doctor", "--nonsense"], ["doctor", "word"]])
def test_unknown_words_are_usage_errors(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    assert "Usage: egotwin" in capsys.readouterr().err


def test_a_misspelt_subcommand_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    run("doctr")
    assert "'doctor'" in capsys.readouterr().err


Failing = Callable[[Callable[[], None]], None]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Failing:
    """Puts a subcommand `fail` on the command line that does what a test gives."""

    def install(action: Callable[[], None]) -> None:
        module = ModuleType("scripted_module")
        module.command = lambda: action()  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "scripted_module", module)
        monkeypatch.setitem(SUBCOMMANDS, "fail", Subcommand("scripted_module", "command", "Fails."))

    return install


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("egotwin: error: ")
    return line


def raising(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


def test_a_users_mistake_is_one_line_and_status_2(failing: Failing, capsys: pytest.CaptureFixture[str]) -> None:
    failing(raising(UserError("the goal 'fly' is unknown:\nsay one of walk, turn, open")))
    assert run("fail") == 2
    assert one_line(capsys) == "egotwin: error: the goal 'fly' is unknown: say one of walk, turn, open"


def test_a_really_full_disk_is_one_line_and_status_2(failing: Failing, capsys: pytest.CaptureFixture[str]) -> None:
    def fill() -> None:
        with open("/dev/full", "w") as file:
            file.write("x" * 100_000)

    failing(fill)
    assert run("fail") == 2
    assert "No space left on device" in one_line(capsys)


def test_a_full_disk_is_recognised_behind_another_exception(
    failing: Failing, capsys: pytest.CaptureFixture[str]
) -> None:
    def fill() -> None:
        try:
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        except SafetensorError as error:
            raise RuntimeError("the checkpoint was not written") from error

    failing(fill)
    assert run("fail") == 2
    assert "free some space" in one_line(capsys)


def test_a_path_that_may_not_be_written_is_one_line(failing: Failing, capsys: pytest.CaptureFixture[str]) -> None:
    failing(raising(PermissionError(errno.EACCES, "Permission denied", "/somewhere")))
    assert run("fail") == 2
    assert "/somewhere" in one_line(capsys)


def test_interruption_is_status_130(failing: Failing) -> None:
    failing(raising(KeyboardInterrupt()))
    assert run("fail") == 130


def test_a_defect_of_ours_keeps_its_traceback(failing: Failing) -> None:
    failing(raising(ZeroDivisionError("a defect")))
    with pytest.raises(ZeroDivisionError):
        main(["fail"])


def test_a_commands_own_exit_status_is_kept(failing: Failing) -> None:
    failing(raising(typer.Exit(1)))
    assert run("fail") == 1


def test_doctor_reports_as_json_and_fails_only_for_essentials(capsys: pytest.CaptureFixture[str]) -> None:
    status = run("doctor", "--json")
    report = json.loads(capsys.readouterr().out)
    names = [check["name"] for check in report["checks"]]
    assert {"python", "libraries", "torch", "rendering", "video", "text encoder", "gpu", "ros", "extra ros"} <= {*names}
    assert report["ok"] == all(check["ok"] for check in report["checks"] if check["essential"])
    assert status == (0 if report["ok"] else 1)
    assert all(bool(check["remedy"]) != check["ok"] for check in report["checks"])


def test_doctor_names_the_package_when_egl_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setenv("__EGL_VENDOR_LIBRARY_FILENAMES", "/nonexistent.json")
    check = doctor.check_rendering()
    assert not check.ok and check.essential
    assert "sudo apt-get install libegl1" in check.remedy


def test_doctor_counts_parameters_and_sees_truncated_weights(tmp_path: Path) -> None:
    assert [check.ok for check in doctor.check_weights(tmp_path)] == [False]
    part = tmp_path / "nano" / "motion_vae"
    part.mkdir(parents=True)
    file = part / "diffusion_pytorch_model.safetensors"
    save_file({"weight": np.zeros((1000, 30), np.float16), "bias": np.zeros(10_000, np.float16)}, file)
    (check,) = doctor.check_weights(tmp_path)
    assert check.ok and "motion_vae 0.04 M" in check.detail
    file.write_bytes(file.read_bytes()[:-2])
    (check,) = doctor.check_weights(tmp_path)
    assert not check.ok and "unreadable" in check.detail
    file.write_bytes(struct.pack("<Q", 2**40))
    assert not doctor.check_weights(tmp_path)[0].ok
