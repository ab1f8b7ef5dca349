"""The package, built twice, and a signed apt repository that has it and a version before it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.packaging.publishing import Published, build, older
from tests.support.parts import missing, program


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Build the package and the repository."""
    for name, how in (("dpkg-deb", "dpkg"), ("apt-ftparchive", "apt-utils"), ("gpg", "gnupg"), ("strip", "binutils")):
        program(name, f"apt install {how}")
    if not Path(sys.executable).with_name("uv").exists():
        missing("uv", 'pip install -e ".[dev]"')
    folder = tmp_path_factory.mktemp("published")
    begun = [
        build(folder / "one", TZ="UTC", LC_ALL="C"),
        build(folder / "two", TZ="Asia/Tokyo", LC_ALL="C.UTF-8", HOME=str(folder), PYTHONHASHSEED="1"),
    ]
    said = [process.communicate()[0] for process in begun]
    assert not any(process.returncode for process in begun), said
    one, two = (next((folder / name).glob("*.deb")) for name in ("one", "two"))
    repository = folder / "repository"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GNUPGHOME", str(folder / "gpg"))
        (folder / "gpg").mkdir(mode=0o700)
        gpg = ["gpg", "--batch", "--quiet", "--passphrase", ""]
        subprocess.run([*gpg, "--quick-gen-key", "test", "ed25519", "sign", "never"], check=True)
        make: list[str | Path] = [sys.executable, ROOT / "packaging/build_repository.py", repository]
        subprocess.run([*make, older(one, folder), one, "--key", "test"], check=True)
        subprocess.run(["gpgconf", "--kill", "all"], check=True)
    return Published((one, two), repository)
