"""AppleScript against the simulated desktop: what System Events shows of it, and what it refuses.

Refusals and their numbers as reported of real Macs: -1719 "not allowed assistive access" without the Accessibility right (process
names can be read all the same), -1743 without the Automation right, -1719 "Invalid index." and -1728 for what is not there, and no
answer at all while an Automation prompt is on the screen that nobody answers. Comparisons ignore case, as AppleScript's do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from harness.simulator.guest.applescript_syntax import Node, parse
from harness.simulator.interfaces import AxElement, AxProcess

MOST_STEPS = 20_000
"""A script that does more is ended: nobody's does, and a loop without an end must not take the simulator with it."""
_PLAIN = (str, int, float, bool, type(None))


class ScriptError(Exception):
    """The script ends with an error that has a number."""

    def __init__(self, text: str, number: int) -> None:
        self.number = number
        super().__init__(text)


class _Return(Exception):
    def __init__(self, value: Any) -> None:
        self.value = value


class _Exit(Exception):
    pass


class World:
    """What a script can reach.

    Args:
        processes: The processes and their windows, made anew at each look.
        access: "granted", "refused" or "unanswered".
        quit_app: Quits an app by name; False where no such app may be told.
    """

    def __init__(
        self, processes: Callable[[], Sequence[AxProcess]], access: str, quit_app: Callable[[str], bool]
    ) -> None:
        self.processes = processes
        self.access = access
        self.quit_app = quit_app


async def run(script: str, world: World, arguments: Sequence[str] = ()) -> Any:
    """Run a script; its value: plain, an element, or lists of such.

    Raises:
        SyntaxMistake: It is none.
        ScriptError: It ends with an error.
    """
    tree = parse(script)
    program = _Program(world, list(arguments))
    try:
        return await program.do(tree)
    except _Return as done:
        return done.value
    except _Exit:
        return None


class _Program:
    def __init__(self, world: World, arguments: list[str]) -> None:
        self._world = world
        self._arguments = arguments
        self._variables: dict[str, Any] = {}
        self._targets: list[Any] = []
        self._steps = 0

    # --- statements

    async def do(self, node: Node) -> Any:
        """Do a statement; its value."""
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise ScriptError("Stack overflow.", -2706)
        await asyncio.sleep(0)
        kind = node[0]
        if kind == "block":
            value = None
            for statement in node[1]:
                value = await self.do(statement)
            return value
        if kind == "tell":
            return await self._tell(node[1], node[2])
        if kind == "timeout":
            return await self.do(node[2])
        if kind == "run":
            self._variables[node[1].lower()] = list(self._arguments)
            return await self.do(node[2])
        if kind == "if":
            if await self._value(node[1]) is True:
                return await self.do(node[2])
            return await self.do(node[3]) if node[3] is not None else None
        if kind in ("each", "times"):
            return await self._repeat(node)
        if kind == "try":
            return await self._try(node)
        if kind == "set":
            self._variables[node[1].lower()] = await self._value(node[2])
            return self._variables[node[1].lower()]
        if kind == "return":
            raise _Return(await self._value(node[1]) if node[1] is not None else None)
        if kind == "exit":
            raise _Exit
        if kind == "error":
            text = "" if node[1] is None else str(await self._value(node[1]))
            number = -2700 if node[2] is None else await self._value(node[2])
            raise ScriptError(text or "An error of type -2700 has occurred.", int(number))
        if kind == "delay":
            await asyncio.sleep(min(float(await self._value(node[1])), 3600.0))
            return None
        return await self._command(node)

    async def _command(self, node: Node) -> Any:
        kind = node[0]
        if kind in ("activate", "quit"):
            target = await self._value(node[1]) if node[1] is not None else self._target()
            if kind == "quit" and isinstance(target, _Application) and not self._world.quit_app(target.name):
                raise ScriptError(f"Not authorized to send Apple events to {target.name}.", -1743)
            return None
        if kind in ("click", "perform"):
            target = await self._value(node[-1])
            if kind == "perform" and str(await self._value(node[1])).lower() != "axpress":
                raise ScriptError(f"System Events got an error: Can’t perform that action of {spell(target)}.", -1728)
            if not isinstance(target, AxElement):
                raise ScriptError(
                    f"System Events got an error: Can’t make {spell(target)} into type UI element.", -1700
                )
            await self._may_press()
            if target.press is not None:
                target.press()
            return target
        return await self._value(node[1])

    async def _tell(self, target: Node, body: Node) -> Any:
        self._targets.append(await self._value(target))
        try:
            return await self.do(body)
        finally:
            self._targets.pop()

    async def _repeat(self, node: Node) -> Any:
        try:
            if node[0] == "each":
                items = await self._value(node[2])
                for item in items if isinstance(items, list) else [items]:
                    self._variables[node[1].lower()] = item
                    await self.do(node[3])
                return None
            times = None if node[1] is None else int(await self._value(node[1]))
            while times is None or times > 0:
                times = None if times is None else times - 1
                await self.do(node[2])
        except _Exit:
            pass
        return None

    async def _try(self, node: Node) -> Any:
        depth = len(self._targets)
        try:
            return await self.do(node[1])
        except ScriptError as error:
            del self._targets[depth:]
            if node[2]:
                self._variables[node[2].lower()] = str(error)
            if node[3]:
                self._variables[node[3].lower()] = error.number
            return await self.do(node[4])

    # --- expressions

    async def _value(self, node: Node) -> Any:
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise ScriptError("Stack overflow.", -2706)
        kind = node[0]
        if kind == "value":
            return node[1]
        if kind == "list":
            return [await self._value(item) for item in node[1]]
        if kind == "character":
            code = await self._value(node[1])
            return "".join(chr(int(one)) for one in (code if isinstance(code, list) else [code]))
        if kind == "application":
            return await self._application(str(await self._value(node[1])))
        if kind == "exists":
            return await self._exists(node[1])
        if kind == "count":
            counted = await self._value(node[1])
            return len(counted) if isinstance(counted, list | str) else 1
        if kind == "not":
            return not await self._value(node[1])
        if kind in ("and", "or"):
            left = bool(await self._value(node[1]))
            return left if left is (kind == "or") else bool(await self._value(node[2]))
        if kind == "compare":
            return _compare(node[1], await self._value(node[2]), await self._value(node[3]))
        if kind == "join":
            left, right = await self._value(node[1]), await self._value(node[2])
            if isinstance(left, list) or isinstance(right, list):
                return [*(left if isinstance(left, list) else [left]), *(right if isinstance(right, list) else [right])]
            return spell(left) + spell(right)
        if kind == "sum":
            left, right = await self._value(node[2]), await self._value(node[3])
            if not isinstance(left, int | float) or not isinstance(right, int | float):
                raise ScriptError(f"Can’t make {spell(left)} into type number.", -1700)
            return left + right if node[1] == "+" else left - right
        if kind == "variable":
            name = str(node[1]).lower()
            if name in self._variables:
                return self._variables[name]
            raise ScriptError(f"The variable {node[1]} is not defined.", -2753)
        if kind == "of":
            return await self._of(node[1], await self._value(node[2]))
        return await self._of(node, self._target())

    async def _exists(self, node: Node) -> bool:
        try:
            value = await self._value(node)
        except ScriptError as error:
            if error.number == -1728 or "Invalid index" in str(error):
                return False
            raise
        return value is not None

    async def _of(self, node: Node, owner: Any) -> Any:
        """A property or element of an owner; of each, where the owner is a list."""
        if node[0] == "element" and node[1] == "item":
            items = owner if isinstance(owner, list) else [owner]
            return await self._pick(items, node, owner)
        if isinstance(owner, list) and not (node[0] == "property" and node[1] in ("number", "length", "class")):
            return [await self._of(node, one) for one in owner]
        if node[0] == "property":
            return await self._property(str(node[1]), owner)
        if node[0] != "element":
            raise ScriptError(f"Can’t get {node[1] if len(node) > 1 else 'that'} of {spell(owner)}.", -1728)
        if node[1] == "process":
            if not isinstance(owner, _Application) or owner.name != "System Events":
                raise ScriptError(f"Can’t get process of {spell(owner)}.", -1728)
            return await self._pick(list(self._world.processes()), node, owner)
        if isinstance(owner, AxProcess | AxElement) or (
            isinstance(owner, _Application) and owner.name == "System Events"
        ):
            await self._may_look()
        if not isinstance(owner, AxProcess | AxElement):
            raise ScriptError(f"Can’t get {node[1]} of {spell(owner)}.", -1728)
        children = owner.windows if isinstance(owner, AxProcess) else owner.children
        fitting = [child for child in children if node[1] in (child.role, "ui element")]
        return await self._pick(fitting, node, owner)

    async def _pick(self, among: list[Any], node: Node, owner: Any) -> Any:
        """By index, name, condition or position."""
        _, role, which, condition = node
        if condition is not None:
            among = [one for one in among if await self._holds(condition, one)]
        if which == "every":
            return among
        if isinstance(which, tuple):
            which = await self._value(which)
        if isinstance(which, str) and which not in ("first", "last", "some"):
            wanted = which.lower()
            found = next((one for one in among if str(getattr(one, "name", None) or "").lower() == wanted), None)
            if found is None:
                raise ScriptError(f'System Events got an error: Can’t get {role} "{which}"{_after(owner)}.', -1728)
            return found
        index = {"first": 1, "some": 1, "last": len(among)}.get(which, which) if isinstance(which, str) else which
        if not isinstance(index, int) or not 1 <= index <= len(among):
            raise ScriptError(
                f"System Events got an error: Can’t get {role} {which}{_after(owner)}. Invalid index.", -1719
            )
        return among[index - 1]

    async def _holds(self, condition: Node, one: Any) -> bool:
        self._targets.append(one)
        try:
            return await self._value(condition) is True
        finally:
            self._targets.pop()

    async def _property(self, name: str, owner: Any) -> Any:
        if name in ("number", "length"):
            return len(owner) if isinstance(owner, list | str) else 1
        if isinstance(owner, (*_PLAIN, list)):
            raise ScriptError(f"Can’t get {name} of {spell(owner)}.", -1728)
        if isinstance(owner, _Application):
            return owner.name
        if isinstance(owner, AxProcess):
            if name == "entire contents":
                await self._may_look()
                return [one for window in owner.windows for one in (window, *_all(window))]
            return {"name": owner.name, "title": owner.name, "class": "process", "frontmost": owner.frontmost}.get(name)
        assert isinstance(owner, AxElement)
        if name == "entire contents":
            return list(_all(owner))
        title = owner.name if owner.role in ("window", "sheet", "button", "checkbox") else None
        roles = {"window": "AXWindow", "sheet": "AXSheet", "button": "AXButton", "static text": "AXStaticText"}
        return {
            "name": owner.name,
            "title": title,
            "value": owner.value,
            "description": owner.role,
            "role": roles.get(owner.role, "AX" + owner.role.title().replace(" ", "")),
            "class": owner.role,
            "enabled": True,
        }.get(name)

    # --- rights

    async def _application(self, name: str) -> _Application:
        if name == "System Events" and self._world.access == "unanswered":
            await asyncio.Event().wait()  # the Automation prompt is up, and nobody answers it
        return _Application(name)

    async def _may_look(self) -> None:
        if self._world.access != "granted":
            raise ScriptError("System Events got an error: osascript is not allowed assistive access.", -1719)

    _may_press = _may_look

    def _target(self) -> Any:
        return self._targets[-1] if self._targets else None


class _Application:
    def __init__(self, name: str) -> None:
        self.name = name


def _compare(operator: str, left: Any, right: Any) -> bool:
    if operator.startswith("!"):
        return not _compare(operator[1:] or "=", left, right)
    one, other = _folded(left), _folded(right)
    if operator == "=":
        return bool(one == other)
    if operator == "in":
        one, other, operator = other, one, "contains"
    if operator == "contains":
        if isinstance(one, list):
            part = other if isinstance(other, list) else [other]
            return any(one[at : at + len(part)] == part for at in range(len(one) - len(part) + 1))
        return str(other) in str(one)
    if operator in ("starts", "ends"):
        return str(one).startswith(str(other)) if operator == "starts" else str(one).endswith(str(other))
    if type(one) is not type(other) or not isinstance(one, str | int | float):
        raise ScriptError(f"Can’t make {spell(right)} into type {type(left).__name__}.", -1700)
    less, equal = bool(one < other), bool(one == other)
    return {"<": less, ">": not less and not equal, "<=": less or equal, ">=": not less}[operator]


def _folded(value: Any) -> Any:
    if isinstance(value, list):
        return [_folded(item) for item in value]
    return value.lower() if isinstance(value, str) else value


def _all(element: AxElement) -> list[AxElement]:
    return [one for child in element.children for one in (child, *_all(child))]


def _after(owner: Any) -> str:
    text = spell(owner, source=True)
    return f" of {text}" if isinstance(owner, AxProcess | AxElement) else ""


def spell(value: Any, *, source: bool = False) -> str:
    """As osascript prints a value: for people (texts bare, lists without braces), or as source (`-s s`)."""
    if value is None:
        return "missing value"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        if not source:
            return value
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'
    if isinstance(value, list):
        inner = ", ".join(spell(item, source=source) for item in value)
        return "{" + inner + "}" if source else inner
    if isinstance(value, _Application):
        return f'application "{value.name}"' if source else f"application {value.name}"
    if isinstance(value, AxProcess):
        return f'process "{value.name}"' if source else f"application process {value.name}"
    if isinstance(value, AxElement):
        if value.role == "static text" or value.name is None:
            return f"{value.role} 1"
        return f'{value.role} "{value.name}"' if source else f"{value.role} {value.name}"
    return str(value)
