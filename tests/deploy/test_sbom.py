"""The list of what is in the image (`make sbom`): valid, complete, and the same for the same commit."""

import json
import subprocess
from pathlib import Path
from typing import Any

from reconciler import __version__
from tests.patience import HANG_S
from tests.test_deploy import locked

ROOT = Path(__file__).parent.parent.parent


def made(path: Path) -> bytes:
    subprocess.run(["make", "sbom", f"SBOM={path}"], cwd=ROOT, check=True, timeout=HANG_S)  # validates it as well
    return path.read_bytes()


def test_the_list_names_each_locked_package_of_the_image_with_its_hashes(tmp_path: Path) -> None:
    text = made(tmp_path / "sbom.cdx.json")
    assert made(tmp_path / "again.cdx.json") == text
    listed: dict[str, Any] = json.loads(text)
    assert (listed["bomFormat"], listed["metadata"]["component"]["version"]) == ("CycloneDX", __version__)
    found = {
        one["name"]: (
            one["version"],
            frozenset(
                f"sha256:{known['content']}" for given in one["externalReferences"] for known in given.get("hashes", ())
            ),
        )
        for one in listed["components"]
    }
    assert found == locked("requirements-image.lock")
    assert [path.name for path in tmp_path.glob("*.toml")] == []
