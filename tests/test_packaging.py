import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        folder,
        ROOT,
    ]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def test_installed_wheel_finds_its_embedded_weights(unpacked):
    code = "from deblur_cli import weights; w = weights.load(); print(weights.__file__); print(w.sha256)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=unpacked,
        env={"PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
        check=True,
    )
    file, digest = done.stdout.split()
    assert Path(file).is_relative_to(unpacked)
    assert len(digest) == 64


def test_wheel_carries_license_types_and_training_settings(unpacked):
    names = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*")}
    assert "deblur_cli/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any(name.startswith("deblur_cli/train/configs/") for name in names)
    assert {
        f"deblur_cli/report/templates/{name}" for name in ("page.html.j2", "style.css", "viewer.js")
    } <= names


def test_every_catalog_entry_has_a_model_card():
    from deblur_cli import weights

    for entry in weights.installed():
        card = (weights.catalog_folder() / f"{entry.name}.md").read_text(encoding="utf-8")
        assert entry.sha256 in card
