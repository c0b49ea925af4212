"""What `sysext.toml`, `SYSEXT_…` variables and options may say."""

from __future__ import annotations

import os
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr

from harness.config.tables import Lane, MacOS, Table, check_keys, nearest, read_toml, table_of, validated
from harness.errors import UsageError
from harness.events import SECRETS

ENV_PREFIX = "SYSEXT_"
# Not settings, but read elsewhere: the ground floor's factor, and what pytest's options also say.
ENV_OTHER = frozenset({"SYSEXT_TIMEOUT_FACTOR", "SYSEXT_CONFIG"})


class TartSettings(Table):
    """How Macs are made with Tart."""

    executable: str = "tart"
    home: Path | None = None
    """TART_HOME; None leaves Tart's own default (~/.tart)."""
    cpu: int = Field(default=4, ge=1)
    memory_mb: int = Field(default=8192, ge=512)
    display: str = Field(default="1920x1080px", pattern=r"^\d{3,5}x\d{3,5}(px|pt)?$")
    slots: int = Field(default=2, ge=1)
    """Macs at once on this host. Apple's licence and kernel allow two."""
    images: dict[str, str] = Field(
        default_factory=lambda: {
            "12": "ghcr.io/cirruslabs/macos-monterey-vanilla:latest",
            "13": "ghcr.io/cirruslabs/macos-ventura-vanilla:latest",
            "14": "ghcr.io/cirruslabs/macos-sonoma-vanilla:latest",
            "15": "ghcr.io/cirruslabs/macos-sequoia-vanilla:latest",
            "26": "ghcr.io/cirruslabs/macos-tahoe-vanilla:latest",
        }
    )
    """Image per macOS version, where `image` is not set."""
    run_arguments: list[str] = Field(default_factory=list)
    """More arguments for `tart run` (`--net-softnet`, …)."""


class SimulatedSettings(Table):
    """How simulated Macs behave: the provider `simulated`. Delays in seconds; each run records them."""

    executable: str = ""
    """A `tart`-compatible executable; empty for the one installed with this package."""
    home: Path | None = None
    """Its TART_HOME; None for `~/.cache/sysext/simulated`."""
    slots: int = Field(default=10, ge=1)
    boot_seconds: float = Field(default=1.5, ge=0)
    login_seconds: float = Field(default=0.5, ge=0)
    prompt_seconds: float = Field(default=0.5, ge=0)
    settle_seconds: float = Field(default=0.2, ge=0)
    shutdown_seconds: float = Field(default=0.3, ge=0)
    activation_seconds: float = Field(default=0.4, ge=0)
    sysdiagnose_seconds: float = Field(default=1.0, ge=0)
    display: str = Field(default="1280x800px", pattern=r"^\d{3,5}x\d{3,5}(px|pt)?$")
    scale: Literal[1, 2] = 1
    appearance: Literal["light", "dark"] = "light"
    faults: list[str] = Field(default_factory=list)
    """`CODE[:rate=0.2][:seed=7][:key=value…]`, as `--sysext-fault` takes them."""
    run_key: str = Field(default="", max_length=500, pattern=r"^[^\x00-\x1f]*$")
    """What decides, with a fault's seed, whether a fault with a rate below 1 strikes; empty: made from each scenario's own
    name, attempt and cycle. `sysext replay` sets it to that of the run which is replayed."""
    variations: list[str] = Field(default_factory=list)
    """`NAME=VALUE`: what the simulated display does differently, as real Macs differ; `docs/variations.md` lists them."""


class ThisMacSettings(Table):
    """The very host as the Mac: the provider `this-mac`."""

    disposable: bool = False
    """The host is thrown away afterwards: apps may be installed and extensions approved on it for good. Never your own Mac."""
    host: str = "127.0.0.1"
    """Where its own SSH server listens."""


class GuestSettings(Table):
    """How to get into a Mac."""

    user: str = "admin"
    password: SecretStr = SecretStr("admin")
    key: Path | None = None
    """A private key file; the password is still used for sudo and for the approval."""
    vnc_user: str = Field(default="", max_length=63)
    """The account to show to a VNC server that is Apple's Screen Sharing in the Mac (security type 30), with `password`; empty
    for the hypervisor's own server, which has a password of its own."""
    ssh_port: int = Field(default=22, ge=1, le=65535)
    keepalive_seconds: float = Field(default=5.0, gt=0)

    def reveal(self) -> str:
        """The password itself, masked in every sink from now on. One that equals the user's name (admin/admin, as public
        images have it) is no secret, and masking it would blot out paths.
        """
        password = self.password.get_secret_value()
        return SECRETS.spare(password) if password == self.user else SECRETS.add(password)


class Timeouts(Table):
    """Time limits in seconds, each multiplied by `SYSEXT_TIMEOUT_FACTOR`."""

    clone: float = Field(default=1800, gt=0)
    slot: float = Field(default=3600, ge=0)
    boot: float = Field(default=300, gt=0)
    ssh: float = Field(default=120, gt=0)
    command: float = Field(default=60, gt=0)
    install: float = Field(default=300, gt=0)
    activation: float = Field(default=60, gt=0)
    prompt: float = Field(default=30, gt=0)
    """How long the approval prompt may take before the verdict is *prompt missing*."""
    quiet: float = Field(default=5, gt=0)
    """How long the screen must stay quiet, at least, before *no prompt* is believed where none is expected; twice the time
    that a prompt took on this Mac, if that is longer."""
    approval: float = Field(default=120, gt=0)
    ready: float = Field(default=60, gt=0)
    """From approval to launchd job, endpoints, tunnel."""
    reboot: float = Field(default=300, gt=0)
    shutdown: float = Field(default=60, gt=0)
    evidence: float = Field(default=1200, gt=0)
    sysdiagnose: float = Field(default=900, gt=0)


class EvidenceSettings(Table):
    """What is kept when something fails."""

    sysdiagnose: bool = True
    log_last: str = Field(default="30m", pattern=r"^\d+[smhd]$|^boot$")
    keep_passing: bool = True
    """Keep frames, recording and the streamed log of passing scenarios too; their result and event stream stay in any case."""
    max_frames: int = Field(default=40, ge=1)
    recording: bool = True
    """Record the screen of each Mac into its case file: every change, and what was recognised and clicked."""
    recording_mb: int = Field(default=100, ge=16)
    """How much a recording may take; beyond that it is thinned out evenly, an event each time."""
    clip_mb: float = Field(default=3, ge=0)
    """How large the short film (animated WebP) of a failing scenario may be, made from its recording; 0 makes none."""


class ScreenSettings(Table):
    """How the screen is read."""

    pages: list[Path] = Field(default_factory=list)
    """TOML files that describe more windows, languages or phrases, in the form of `harness/screen/pages/en.toml`."""
    reader: Literal["auto", "rapidocr", "vision"] = "auto"
    """What reads text: Apple's Vision (extra `macos`, on a Mac), RapidOCR, or Vision where it is installed."""
    needles: bool = True
    """Keep pictures of prompts that were answered with success (below `cache`), and know them again by their pixels."""


class TriageSettings(Table):
    """Saying why a scenario failed, from its case file."""

    automatic: bool = True
    """Triage the case file of each failing scenario, and say the cause wherever the failure is reported."""
    passing: bool = True
    """Look through what the Mac logged during a passing scenario, too: a fatal line that nobody expected is told."""
    strict_passing: bool = False
    """Such a line turns a passing scenario into a product failure."""
    seconds: float = Field(default=120, gt=0)
    """How long triage of one case file may take; what takes longer is told, and changes no verdict."""


class PreflightSettings(Table):
    """What is judged from the files before a Mac boots."""

    enabled: bool = True
    """Judge the releases before each scenario and each upgrade; findings are in its result."""
    enforce: bool = True
    """An error fails the scenario, with no Mac booted. `--sysext-no-preflight` sets it to false: told, and gone on."""
    off: dict[str, str] = Field(default_factory=dict)
    """Rules that are switched off, each with the reason: `[preflight.off]`, `rule-id = "reason"`; `docs/rules/` lists them."""


class HistorySettings(Table):
    """The database of past runs: failure rates, trends, what a release is signed off with."""

    url: SecretStr = SecretStr("")
    """`sqlite:////path/history.sqlite`, or `postgresql://user@host/name` for a team (extra `postgres`); empty for
    `history.sqlite` below `cache`."""
    record: bool = True
    """Add each run to it when it ends."""


class SoakSettings(Table):
    """Scenarios that do the same thing over and over: `scenarios/test_dns_proxy.py`."""

    cycles: int = Field(default=3, ge=1)
    """How often. What takes hours to break wants hundreds: set it for a nightly run."""
    pause_seconds: float = Field(default=1.0, ge=0)
    """Between two of them."""


class UpgradeSettings(Table):
    """Upgrade paths: `scenarios/test_upgrade_paths.py`, docs/upgrades.md."""

    paths: list[str] = Field(default_factory=list)
    """Which upgrades to walk, as `--sysext-upgrade` takes them; empty for a small choice that has each way and each state once."""
    ladder: bool = True
    """When an upgrade leaves something broken, try what heals it, rung by rung, and say which did; the scenario fails all the same."""
    rung_seconds: float = Field(default=30, gt=0)
    """How long the extension may take to work again after a rung of that ladder."""


class Settings(Table):
    """Everything `sysext.toml` may say."""

    provider: Literal["tart", "simulated", "this-mac"] = "tart"
    macos: list[MacOS] = Field(default=["15"])
    image: str | None = None
    lane: Lane = "pristine"
    app: Path | None = None
    artifacts: Path = Path("artifacts")
    cache: Path | None = None
    """Downloaded releases; None for `~/.cache/sysext`."""
    keep_vm: bool = False
    remember_readings: bool = True
    """Keep what was read off the screen (below `cache`), so that the same pixels are not read twice."""
    tart: TartSettings = Field(default_factory=TartSettings)
    simulated: SimulatedSettings = Field(default_factory=SimulatedSettings)
    this_mac: ThisMacSettings = Field(default_factory=ThisMacSettings)
    guest: GuestSettings = Field(default_factory=GuestSettings)
    timeouts: Timeouts = Field(default_factory=Timeouts)
    evidence: EvidenceSettings = Field(default_factory=EvidenceSettings)
    preflight: PreflightSettings = Field(default_factory=PreflightSettings)
    screen: ScreenSettings = Field(default_factory=ScreenSettings)
    triage: TriageSettings = Field(default_factory=TriageSettings)
    history: HistorySettings = Field(default_factory=HistorySettings)
    upgrades: UpgradeSettings = Field(default_factory=UpgradeSettings)
    soak: SoakSettings = Field(default_factory=SoakSettings)
    known_issues: list[Path] = Field(default_factory=lambda: [Path("known_issues")])
    """Files, or folders of files, that describe failures that are known; a folder named here must exist."""

    @property
    def cache_dir(self) -> Path:
        """Where downloads, leases and slots live."""
        return self.cache if self.cache is not None else Path.home() / ".cache" / "sysext"

    def image_for(self, macos: str) -> str:
        """The image to clone for a macOS version.

        Raises:
            UsageError: No image is set for it.
        """
        if self.provider == "this-mac":
            return self.provider  # nothing is cloned
        if self.image is not None:
            return self.image
        try:
            return self.tart.images[macos]
        except KeyError:
            raise UsageError(
                f"an image for macOS {macos}",
                seen=f"tart.images has {', '.join(sorted(self.tart.images))}",
                hint="set tart.images in sysext.toml or give --sysext-image",
            ) from None


def load_settings(
    path: Path | None = None, *, overrides: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """Read the settings.

    Args:
        path: A TOML file; None for `SYSEXT_CONFIG`, else `sysext.toml` in the working directory if it is there.
        overrides: From the command line, dotted names ("timeouts.boot") to values; None values are left out.
        environ: The environment (the process's by default).

    Raises:
        UsageError: A file that cannot be read, an unknown key, a wrong value.
    """
    environ = os.environ if environ is None else environ
    wanted = path or (Path(environ["SYSEXT_CONFIG"]) if environ.get("SYSEXT_CONFIG") else None)
    data: dict[str, Any] = {}
    origin = "sysext.toml"
    if wanted is not None or Path("sysext.toml").is_file():
        source = wanted or Path("sysext.toml")
        origin = str(source)
        data = read_toml(source)
    check_keys(data, Settings, origin)
    for name, value in environ.items():
        if name.startswith(ENV_PREFIX) and name not in ENV_OTHER and not name.startswith("SYSEXT_SIM_"):
            dotted = name[len(ENV_PREFIX) :].lower().replace("__", ".")
            if dotted == "fault":  # the short name that `make scenarios SYSEXT_FAULT=…` uses
                dotted = "simulated.faults"
            _put(data, dotted, _from_text(value, dotted, name), name)
    for dotted, value in (overrides or {}).items():
        if value is not None:
            _put(data, dotted, value, f"option {dotted}")
    settings = validated(Settings, data, f"options, SYSEXT_… variables and {origin}")
    settings.guest.reveal()
    return settings


def _put(data: dict[str, Any], dotted: str, value: Any, origin: str) -> None:
    *parents, last = dotted.split(".")
    model: type[Table] = Settings
    here = data
    for parent in parents:
        field = model.model_fields.get(parent)
        table = table_of(field.annotation) if field is not None else None
        if table is None:
            raise UsageError(
                f"a known setting for {origin}", seen=f"'{dotted}'", hint=nearest(parent, model.model_fields)
            )
        model = table
        here[parent] = dict(here.get(parent, {}))
        here = here[parent]
    if last not in model.model_fields:
        raise UsageError(f"a known setting for {origin}", seen=f"'{dotted}'", hint=nearest(last, model.model_fields))
    here[last] = value


def _from_text(value: str, dotted: str, name: str) -> Any:
    """An environment value: lists are split at commas, the rest pydantic reads."""
    model: type[Table] = Settings
    parts = dotted.split(".")
    for parent in parts[:-1]:
        field = model.model_fields.get(parent)
        table = table_of(field.annotation) if field is not None else None
        if table is None:
            return value
        model = table
    field = model.model_fields.get(parts[-1])
    if field is None:
        return value
    origin = typing.get_origin(field.annotation)
    if origin is list:
        return [part.strip() for part in value.split(",") if part.strip()]
    if origin is Literal and value.lstrip("-").isdigit() and int(value) in typing.get_args(field.annotation):
        return int(value)  # pydantic takes a number of a choice only as a number
    if origin is dict:
        raise UsageError(
            f"{name} to be set in sysext.toml",
            seen="a table does not fit an environment variable",
            hint=f"unset {name}",
        )
    return value
