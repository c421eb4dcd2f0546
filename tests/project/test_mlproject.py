"""MLproject and conda.yaml say what the code says, and what MLflow makes of them is what we mean."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from mlflow.projects._project_spec import load_project
from mlflow.utils.environment import _PythonEnv

from inversion.cli.app import cli, run_command
from inversion.cli.report import cli as report_command
from inversion.cli.sweep import cli as sweep_command
from inversion.cli.train import command as train_command
from inversion.config.run_config import RunConfig, parse_config


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((root / "MLproject").read_text())
    return content


@pytest.fixture(scope="module")
def parameters(project: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = project["entry_points"]["main"]["parameters"]
    return found


def test_its_parameters_are_those_of_a_run_in_their_order(parameters: dict[str, Any]) -> None:
    assert list(parameters) == list(RunConfig.model_fields)


def test_its_defaults_are_those_of_a_run(parameters: dict[str, Any]) -> None:
    defaults = {name: parameter["default"] for name, parameter in parameters.items()}
    assert None not in defaults.values()  # MLflow takes null for required
    for name, field in RunConfig.model_fields.items():
        assert getattr(RunConfig.model_validate({name: defaults[name]}), name) == field.default, name
    assert parse_config(defaults) == RunConfig()


def test_its_types_are_float_for_numbers_and_string_for_everything_else(parameters: dict[str, Any]) -> None:
    for name, field in RunConfig.model_fields.items():
        number = isinstance(field.default, int | float) and not isinstance(field.default, bool)
        assert parameters[name]["type"] == ("float" if number else "string"), name


def test_its_command_passes_each_parameter_under_its_name(project: dict[str, Any]) -> None:
    words = project["entry_points"]["main"]["command"].split()
    expected = [word for name in RunConfig.model_fields for word in (f"--{name.replace('_', '-')}", f"{{{name}}}")]
    assert words == ["python", "-m", "inversion", "train", *expected]


def test_its_sweep_queues_a_spec_that_comes_with_the_package(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = load_project(str(root)).get_entry_point("sweep").compute_command({"where": "decoder=wavelet"}, None)
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "inversion.sweeps"]
    assert run_command(sweep_command, [*words[3:], "--dry-run"]) == 0
    assert "11 runs" in capsys.readouterr().out


def test_its_report_is_asked_for_as_on_the_command_line(root: Path) -> None:
    entry = load_project(str(root)).get_entry_point("report")
    words = shlex.split(entry.compute_command({"study": "my study", "memory_budget": "2000"}, None))
    assert words[:3] == ["python", "-m", "inversion.report"]
    options = report_command.make_context("inversion-report", words[3:]).params
    assert (options["studies"], options["output"], options["memory_budget"]) == (("my study",), Path("report"), 2000.0)
    words = shlex.split(entry.compute_command({}, None))
    assert report_command.make_context("inversion-report", words[3:]).params["memory_budget"] is None


def given(root: Path, parameters: dict[str, str]) -> RunConfig:
    """The configuration that ``inversion train`` sees when MLflow starts it with these ``-P``."""
    command = load_project(str(root)).get_entry_point("main").compute_command(parameters, None)
    words = shlex.split(command)
    assert words[:4] == ["python", "-m", "inversion", "train"]
    parent = click.Context(cli, **cli.context_settings)  # a command keeps the help options of its first parent
    options = train_command.make_context("train", words[4:], parent).params
    return parse_config({name: value for name, value in options.items() if name in RunConfig.model_fields})


def test_mlflow_run_without_parameters_is_the_default_run(root: Path) -> None:
    assert given(root, {}) == RunConfig()


def test_values_arrive_as_they_were_given(root: Path) -> None:
    values = {"data": "my photos; rm -rf $HOME `x`", "weights": "vgg16=a b.pth,resnet34='c'", "decoder_options": "",
              "lr": "3e-4", "strict": "true", "image_size": "64"}
    config = given(root, values)
    assert (config.data, config.weights) == (values["data"], values["weights"])
    assert (config.decoder_options, config.lr, config.strict, config.image_size) == ("auto", 3e-4, True, 64)


def test_an_unknown_parameter_reaches_the_command_which_refuses_it(root: Path) -> None:
    command = load_project(str(root)).get_entry_point("main").compute_command({"epoch": "3"}, None)
    assert shlex.split(command)[-2:] == ["--epoch", "3"]


def test_a_clone_runs_its_own_code_in_an_environment_that_holds_another(
        root: Path, project: dict[str, Any], tmp_path: Path) -> None:
    """MLflow caches environments by conda.yaml alone, so two clones share one, which holds the first one's code."""
    shutil.copytree(root / "inversion", tmp_path / "inversion", ignore=shutil.ignore_patterns("__pycache__"))
    init = tmp_path / "inversion" / "__init__.py"
    init.write_text(re.sub(r'__version__ = ".*"', '__version__ = "77.7"', init.read_text()))
    words = project["entry_points"]["main"]["command"].split()[1:3]
    told = subprocess.run([sys.executable, *words, "--version"], cwd=tmp_path, text=True, capture_output=True,
                          check=True).stdout
    assert "77.7" in told


@pytest.fixture(scope="module")
def conda(root: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((root / "conda.yaml").read_text())
    return content


def test_conda_yaml_has_the_form_that_conda_takes(conda: dict[str, Any]) -> None:
    assert set(conda) == {"name", "channels", "dependencies"}
    assert conda["channels"] == ["conda-forge"]
    *packages, pip = conda["dependencies"]
    assert all(re.fullmatch(r"[a-z0-9_.-]+(=[0-9.]+)?", package) for package in packages)
    assert "pip" in packages
    assert set(pip) == {"pip"}
    assert all(isinstance(requirement, str) for requirement in pip["pip"])


def test_uv_and_virtualenv_get_an_exact_python_and_the_project_alone(root: Path, project: dict[str, Any]) -> None:
    environment = _PythonEnv.from_conda_yaml(str(root / project["conda_env"]))
    assert re.fullmatch(r"3\.11\.\d+", environment.python)
    assert environment.build_dependencies == ["pip"]
    assert environment.dependencies == ["-e ."]


def test_the_exact_python_is_one_that_the_project_takes(root: Path, conda: dict[str, Any]) -> None:
    import tomllib

    from packaging.specifiers import SpecifierSet

    wanted = tomllib.loads((root / "pyproject.toml").read_text())["project"]["requires-python"]
    python, = (package for package in conda["dependencies"] if str(package).startswith("python="))
    assert SpecifierSet(wanted).contains(python.partition("=")[2])


def test_the_project_in_a_container_is_the_same(root: Path, project: dict[str, Any]) -> None:
    folder = root / "docs" / "docker"
    contained = yaml.safe_load((folder / "MLproject").read_text())
    assert contained.pop("docker_env") == {"image": "inversion"}
    assert contained == {key: value for key, value in project.items() if key != "conda_env"}
    assert load_project(str(folder)).docker_env == {"image": "inversion"}


def test_the_image_is_built_from_what_the_package_is_built_from(root: Path) -> None:
    folder = root / "docs" / "docker"
    lines = (folder / "Dockerfile").read_text().splitlines()
    copied = {source for line in lines if line.startswith("COPY ") for source in line.split()[1:-1]}
    build = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert copied == {path.removeprefix("/") for path in build["targets"]["sdist"]["include"]} | {"pyproject.toml"}
    sent = (folder / "Dockerfile.dockerignore").read_text().split()
    assert {line.removeprefix("!") for line in sent if line.startswith("!")} == copied
