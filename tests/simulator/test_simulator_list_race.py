"""`tart list` while another process clones and deletes: it never stumbles over what is gone."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from harness.simulator import tart

IMAGE = "ghcr.io/cirruslabs/macos-sequoia-vanilla:latest"


def test_list_while_others_delete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.simulator.store import Store

    monkeypatch.setenv("TART_HOME", str(tmp_path))
    assert tart.main(["clone", IMAGE, "stays"]) == 0
    store = Store.from_environment()
    over = threading.Event()

    def churn() -> None:
        small = store.find("stays")
        while not over.is_set():
            folder = store.temporary() / "made"
            folder.mkdir()
            for name in ("config.json", "disk.img", "nvram.bin"):
                (folder / name).write_bytes((small.folder / name).read_bytes()[:4096])
            (folder / "sim").mkdir()
            (folder / "sim/image.json").write_bytes((small.folder / "sim/image.json").read_bytes())
            store.delete(store.place(folder, "comes-and-goes"))

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        codes = [tart.main(["list", "--format", "json"]) for _ in range(150)]
        codes += [tart.main(["list"]) for _ in range(50)]
    finally:
        over.set()
        thread.join()
    assert set(codes) == {0}, capsys.readouterr().err[-500:]
    assert '"stays"' in capsys.readouterr().out
