"""The grammar of a `tart` command line, with the wordings of Swift's ArgumentParser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.simulator.store import UsageMistake


@dataclass(frozen=True)
class Positional:
    """An argument by place. `rest`: takes all that follow; `passthrough`: options among them too."""

    name: str
    help: str = "VM name"
    required: bool = True
    rest: bool = False
    passthrough: bool = False


@dataclass(frozen=True)
class Option:
    """An option with a value. `integer`: within that many bits, unsigned; `choices`: nothing else."""

    name: str
    short: str = ""
    default: str | None = None
    choices: tuple[str, ...] = ()
    integer: int = 0
    repeat: bool = False
    value_name: str = ""

    @property
    def shown(self) -> str:
        """`--wait <wait>`."""
        return f"--{self.name} <{self.value_name or self.name}>"


@dataclass(frozen=True)
class Flag:
    """An option without a value."""

    name: str
    short: str = ""


@dataclass(frozen=True)
class Grammar:
    """One verb."""

    verb: str
    abstract: str
    positionals: tuple[Positional, ...] = ()
    options: tuple[Option | Flag, ...] = ()
    hidden: bool = False

    @property
    def usage(self) -> str:
        """The usage line."""
        words = ["tart", self.verb]
        words += [f"[--{o.name}]" if isinstance(o, Flag) else f"[{o.shown}]" for o in self.options]
        for place in self.positionals:
            word = f"<{place.name}>" + (" ..." if place.rest else "")
            words.append(word if place.required else f"[{word}]")
        return "Usage: " + " ".join(words)


@dataclass
class Parsed:
    """What was given."""

    values: dict[str, str] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)
    flags: set[str] = field(default_factory=set)
    help: bool = False

    def integer(self, name: str) -> int:
        """An option's number."""
        return int(self.values[name])


def parse(grammar: Grammar, words: Sequence[str]) -> Parsed:
    """Read a verb's arguments.

    Raises:
        UsageMistake: As ArgumentParser says it.
    """
    parsed = Parsed()
    options = {f"--{option.name}": option for option in grammar.options}
    options |= {f"-{option.short}": option for option in grammar.options if option.short}
    for option in grammar.options:
        if isinstance(option, Option):
            if option.repeat:
                parsed.lists[option.name] = []
            elif option.default is not None:
                parsed.values[option.name] = option.default
    loose: list[str] = []
    pending = list(words)
    passthrough = next((i for i, place in enumerate(grammar.positionals) if place.passthrough), None)
    while pending:
        word = pending.pop(0)
        if passthrough is not None and len(loose) > passthrough:
            loose += [word, *pending]
            break
        if word == "--":
            loose += pending
            break
        if word in ("--help", "-h"):
            parsed.help = True
            return parsed
        if not word.startswith("-") or word == "-":
            loose.append(word)
            continue
        name, equals, value = word.partition("=")
        found = options.get(name)
        if found is None:
            raise UsageMistake(f"Unknown option '{name}'")
        if isinstance(found, Flag):
            if equals:
                raise UsageMistake(f"The option '{name}' does not take any value, but '{value}' was specified.")
            parsed.flags.add(found.name)
            continue
        if not equals:
            if not pending or (pending[0].startswith("-") and pending[0] != "-"):
                raise UsageMistake(f"Missing value for '{found.shown}'", help_line=found.shown)
            value = pending.pop(0)
        _check(found, value)
        if found.repeat:
            parsed.lists[found.name].append(value)
        else:
            parsed.values[found.name] = value
    _places(grammar, parsed, loose)
    return parsed


def _places(grammar: Grammar, parsed: Parsed, loose: list[str]) -> None:
    for place in grammar.positionals:
        if place.rest:
            parsed.lists[place.name] = loose
            if place.required and not loose:
                raise UsageMistake(
                    f"Missing expected argument '<{place.name}> ...'", help_line=f"<{place.name}>  {place.help}"
                )
            return
        if loose:
            parsed.values[place.name] = loose.pop(0)
        elif place.required:
            raise UsageMistake(f"Missing expected argument '<{place.name}>'", help_line=f"<{place.name}>  {place.help}")
    if len(loose) == 1:
        raise UsageMistake(f"Unexpected argument '{loose[0]}'")
    if loose:
        listed = ", ".join(f"'{word}'" for word in loose)
        raise UsageMistake(f"{len(loose)} unexpected arguments: {listed}")


def _check(option: Option, value: str) -> None:
    said = f"The value '{value}' is invalid for '{option.shown}'"
    if option.integer and not (value.isascii() and value.isdigit() and int(value) < 2**option.integer):
        raise UsageMistake(said, help_line=option.shown)
    if option.choices and value not in option.choices:
        raise UsageMistake(f"{said}. Please provide one of {_spoken(option.choices)}.", help_line=option.shown)


def _spoken(choices: Sequence[str]) -> str:
    quoted = [f"'{choice}'" for choice in choices]
    if len(quoted) == 2:
        return " and ".join(quoted)
    return ", ".join(quoted[:-1]) + f", or {quoted[-1]}"


_FORMAT = Option("format", default="text", choices=("text", "json"))
_NAME = Positional("name")
_PULLING = (Flag("insecure"), Option("concurrency", default="4", integer=32))

GRAMMARS: dict[str, Grammar] = {
    grammar.verb: grammar
    for grammar in (
        Grammar(
            "create",
            "Create a VM",
            (_NAME,),
            (
                Option("from-ipsw", value_name="path"),
                Flag("linux"),
                Option("disk-size", default="50", integer=16),
                Option("disk-format", default="raw", choices=("raw", "asif")),
            ),
        ),
        Grammar(
            "clone",
            "Clone a VM",
            (Positional("source-name", "source VM name"), Positional("new-name", "new VM name")),
            (*_PULLING, Option("prune-limit", default="100", integer=32), Flag("stacked"), Flag("deduplicate")),
        ),
        Grammar(
            "run",
            "Run a VM",
            (_NAME,),
            (
                *(Flag(name) for name in ("no-graphics", "serial", "graphics", "no-audio", "no-clipboard", "recovery")),
                *(Flag(name) for name in ("vnc", "vnc-experimental", "nested", "net-softnet", "net-host")),
                *(Flag(name) for name in ("suspendable", "capture-system-keys", "no-trackpad")),
                *(Flag(name) for name in ("no-pointer", "no-keyboard")),
                *(Option(name) for name in ("serial-path", "rosetta", "root-disk-opts", "provisioning-opts")),
                *(Option(name) for name in ("net-softnet-allow", "net-softnet-block", "net-softnet-expose")),
                Option("net-softnet-control-fd", integer=31),
                *(Option(name, repeat=True) for name in ("disk", "dir", "net-bridged")),
            ),
        ),
        Grammar(
            "set",
            "Modify VM's configuration",
            (_NAME,),
            (
                Option("cpu", integer=16),
                Option("memory", integer=64),
                Option("display"),
                *(Flag(name) for name in ("display-refit", "no-display-refit", "random-mac", "random-serial")),
                Option("disk"),
                Option("disk-size", integer=16),
            ),
        ),
        Grammar("get", "Get a VM's configuration", (_NAME,), (_FORMAT,)),
        Grammar("list", "List created VMs", (), (Option("source"), _FORMAT, Flag("quiet", "q"))),
        Grammar(
            "login",
            "Login to a registry",
            (Positional("host", "host"),),
            (Option("username"), Flag("password-stdin"), Flag("insecure"), Flag("no-validate")),
        ),
        Grammar("logout", "Logout from a registry", (Positional("host", "host"),)),
        Grammar(
            "ip",
            "Get VM's IP address",
            (_NAME,),
            (
                Option("wait", default="0", integer=16),
                Option("resolver", default="dhcp", choices=("dhcp", "arp", "agent")),
            ),
        ),
        Grammar(
            "exec",
            "Execute a command in a running VM",
            (_NAME, Positional("command", "command to execute", rest=True, passthrough=True)),
            (Flag("interactive", "i"), Flag("tty", "t")),
        ),
        Grammar("pull", "Pull a VM from a registry", (Positional("remote-name", "remote VM name"),), _PULLING),
        Grammar(
            "push",
            "Push a VM to a registry",
            (
                Positional("local-name", "local or remote VM name"),
                Positional("remote-names", "remote VM name(s)", rest=True),
            ),
            (
                *_PULLING,
                Option("chunk-size", default="0", integer=32),
                Option("label", repeat=True),
                Flag("populate-cache"),
            ),
        ),
        Grammar(
            "import",
            "Import VM from a compressed .tvm file",
            (Positional("path", "path to a file"), _NAME),
        ),
        Grammar(
            "export",
            "Export VM to a compressed .tvm file",
            (_NAME, Positional("path", "path to the destination file", required=False)),
        ),
        Grammar(
            "prune",
            "Prune OCI and IPSW caches or local VMs",
            (),
            (
                Option("entries", default="caches", choices=("caches", "vms")),
                Option("older-than", integer=32),
                Option("space-budget", integer=32),
                Option("cache-budget", integer=32),
                Flag("gc"),
            ),
        ),
        Grammar("rename", "Rename a local VM", (_NAME, Positional("new-name", "new VM name"))),
        Grammar("stop", "Stop a VM", (_NAME,), (Option("timeout", "t", default="30", integer=64),)),
        Grammar("delete", "Delete a VM", (Positional("name", "VM name", rest=True),)),
        Grammar("fqn", "Get a fully-qualified VM name", (_NAME,), hidden=True),
        Grammar("suspend", "Suspend a VM", (_NAME,)),
        Grammar(
            "sim-forward",
            "Print where to connect to for a simulated guest's port",
            (Positional("ip", "the guest's address"), Positional("port", "the guest's port")),
            hidden=True,
        ),
        Grammar("sim-faults", "List the faults that can be injected", hidden=True),
    )
}


def overview() -> str:
    """`tart --help`."""
    shown = [grammar for grammar in GRAMMARS.values() if not grammar.hidden]
    rows = "\n".join(f"  {grammar.verb:<23} {grammar.abstract}" for grammar in shown)
    return (
        "USAGE: tart <subcommand>\n\nOPTIONS:\n  --version               Show the version.\n"
        f"  -h, --help              Show help information.\n\nSUBCOMMANDS:\n{rows}\n\n"
        "  See 'tart help <subcommand>' for detailed help."
    )


def help_of(grammar: Grammar) -> str:
    """`tart help VERB`."""
    rows = [f"  <{place.name}>  {place.help}" for place in grammar.positionals]
    options = [f"  --{o.name}" if isinstance(o, Flag) else f"  {o.shown}" for o in grammar.options]
    parts = [f"OVERVIEW: {grammar.abstract}", grammar.usage.replace("Usage:", "USAGE:", 1)]
    if rows:
        parts.append("ARGUMENTS:\n" + "\n".join(rows))
    parts.append("OPTIONS:\n" + "\n".join([*options, "  -h, --help              Show help information."]))
    return "\n\n".join(parts)
