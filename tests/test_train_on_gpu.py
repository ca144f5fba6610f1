"""The bundle for a lent GPU machine holds all that training needs beside what is there."""

import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from train_helpers import tensors, write_photos

from deblur_cli import weights
from deblur_cli.nets import create_detector
from deblur_cli.train.samples import prepare_folder, write_sample
from deblur_cli.train.settings import BlurSettings
from deblur_cli.train.synthetic import fixed_sample
from deblur_cli.weights.files import read_metadata
from deblur_cli.weights.model_card import history_of

EXAMPLES = Path(__file__).parents[1] / "examples"
THIS = f"cp3{sys.version_info.minor}"
OTHER = "cp399"
NETWORK = {"width": 8, "before": 1, "context": 1, "after": 1}
TINY = {
    "patch": 32,
    "batch": 1,
    "steps": 1,
    "precision": "fp32",
    "blur.longest": 8.0,
    "blur.defocus_radius": 8.0,
}
BARE = """
import runpy, sys
sys.argv, absent = sys.argv[2:], sys.argv[1].split(",")
finders = list(sys.meta_path)

class Bare:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in absent:
            return next(filter(None, (finder.find_spec(name, path, target) for finder in finders)), None)

sys.meta_path[:] = [Bare()]
try:
    import imagecodecs
except ModuleNotFoundError:
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def script():
    sys.path.append(str(EXAMPLES))  # it imports its neighbor
    spec = importlib.util.spec_from_file_location("train_on_gpu", EXAMPLES / "train_on_gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(EXAMPLES))


def empty_wheel(folder, python=THIS):
    folder.mkdir(exist_ok=True)
    zipfile.ZipFile(folder / f"nothing-1-{python}-{python}-any.whl", "w").close()


def canonical(package):
    return re.sub(r"[-_.]+", "-", package).lower()


def modules_beside(*packages):
    """The names to import of what is installed here, but for some packages and all that these require."""
    missing, found = list(packages), set()
    while missing:
        if (name := canonical(missing.pop())) in found:
            continue
        found.add(name)
        required = map(Requirement, metadata.requires(name) or ())
        missing += [one.name for one in required if one.marker is None or one.marker.evaluate({"extra": ""})]
    found.add("deblur-cli")
    offered = metadata.packages_distributions().items()
    return [module for module, owners in offered if not found & set(map(canonical, owners))]


def test_bundle_trains_where_nothing_else_is_installed(script, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "download", lambda python, folder: empty_wheel(folder))
    bundle, out = tmp_path / "bundle", tmp_path / "out"
    script.pack(write_photos(tmp_path / "mine", count=9), bundle, ["3.12"], megabytes=14)
    assert script.size(bundle) <= 14e6
    brought = {path.stem: path for path in (bundle / "deblur_cli/_weights").glob("*.safetensors")}
    assert {name: weights.sha256(path) for name, path in brought.items()} == {
        name: weights.entry_named(name).sha256 for name in script.STARTS.values()
    }

    validation = tmp_path / "validation"
    prepare_folder(validation, tensors(), BlurSettings(), 32, 0)
    write_sample(validation, 0, fixed_sample(tensors(), 0, 32, BlurSettings(), 0))
    absent = modules_beside(*script.THERE.values(), *(Requirement(one).name for one in script.NEEDED))
    command = [sys.executable, "-P", "-c", BARE, ",".join(absent)]
    command += [bundle / "train_on_gpu.py", "train", out, "detector", "1", "--device", "cpu"]
    weights.save(tmp_path / "start.safetensors", create_detector(**NETWORK), {})
    settings = TINY | {f"detector.{name}": value for name, value in NETWORK.items()}
    settings |= {"start": tmp_path / "start.safetensors", "validation": validation}
    for name, value in settings.items():
        command += ["--set", f"{name}={value}"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(bundle / "runs"))
    assert {path.name for path in out.iterdir()} == {script.WEIGHTS, "log.csv", "scores.csv", "samples.png"}
    *_, last = history_of(read_metadata(out / script.WEIGHTS))
    assert (last["learned_from"], last["steps"]) == (["mine"], 1)


def test_what_the_bundle_brings_is_what_deblur_asks_for(script):
    asked = {str(Requirement(one)) for one in metadata.requires("deblur-cli")}
    assert set(script.NEEDED) <= asked


def test_bundle_for_another_python_is_refused_in_one_line(script, tmp_path):
    empty_wheel(tmp_path / "wheels", OTHER)
    with pytest.raises(
        script.UnusableError, match=r"^the bundle is for Python 3\.99, and this is 3\.\d+: .*"
    ):
        script.unpack(tmp_path / "wheels", tmp_path / "packages")


def test_large_weights_come_in_parts_that_make_them_whole(script, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "PART", 1000)
    run, out = tmp_path / "run", tmp_path / "out"
    run.mkdir(), out.mkdir()
    content = os.urandom(2500)
    (run / script.WEIGHTS).write_bytes(content)
    script.hand_over(run, out)
    parts = sorted(out.iterdir())
    assert [part.name for part in parts] == [f"{script.WEIGHTS}.part{number}" for number in (1, 2, 3)]
    assert b"".join(part.read_bytes() for part in parts) == content
