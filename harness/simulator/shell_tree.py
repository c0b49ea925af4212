"""What a script is once it was read: the tree between the shell's parser and the shell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Lit:
    """Characters; `quoted` ones are neither split nor matched against files."""

    text: str
    quoted: bool = False


@dataclass(frozen=True)
class Var:
    """`$name`, `${name op word}`; op "" for none, "#" before the name is the op "len"."""

    name: str
    quoted: bool
    op: str = ""
    word: tuple[Part, ...] = ()
    other: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Sub:
    """`$(…)` or backquotes."""

    body: Block
    quoted: bool


@dataclass(frozen=True)
class Arith:
    """`$((…))`."""

    word: tuple[Part, ...]
    quoted: bool


Part: TypeAlias = "Lit | Var | Sub | Arith"
Word: TypeAlias = "tuple[Part, ...]"


@dataclass(frozen=True)
class Redirect:
    """`fd op target`. op: < > >> >| <> <& >& &> &>> << <<<."""

    fd: int
    op: str
    target: Word


@dataclass(frozen=True)
class Simple:
    """Assignments, words, redirections."""

    assignments: tuple[tuple[str, Word], ...]
    words: tuple[Word, ...]
    redirects: tuple[Redirect, ...]


@dataclass(frozen=True)
class Group:
    """`{ … }` or `( … )`."""

    body: Block
    subshell: bool
    redirects: tuple[Redirect, ...] = ()


@dataclass(frozen=True)
class If:
    """`if … then … elif … else … fi`."""

    clauses: tuple[tuple[Block, Block], ...]
    otherwise: Block | None
    redirects: tuple[Redirect, ...] = ()


@dataclass(frozen=True)
class Loop:
    """`while`, or `until` where `negated`."""

    condition: Block
    body: Block
    negated: bool
    redirects: tuple[Redirect, ...] = ()


@dataclass(frozen=True)
class For:
    """`for name in words`; words None is "$@"."""

    name: str
    words: tuple[Word, ...] | None
    body: Block
    redirects: tuple[Redirect, ...] = ()


@dataclass(frozen=True)
class Case:
    """`case word in pattern) … ;; esac`."""

    word: Word
    clauses: tuple[tuple[tuple[Word, ...], Block], ...]
    redirects: tuple[Redirect, ...] = ()


@dataclass(frozen=True)
class Function:
    """`name() { … }`."""

    name: str
    body: Group


Node: TypeAlias = "Simple | Group | If | Loop | For | Case | Function"


@dataclass(frozen=True)
class Pipeline:
    """`a | b`, possibly with `!` before it. `joined[i]`: the i-th is connected by `|&`."""

    parts: tuple[Node, ...]
    negated: bool = False
    joined: tuple[bool, ...] = ()


@dataclass(frozen=True)
class AndOr:
    """`a && b || c`: the operator before each pipeline, "" for the first."""

    parts: tuple[tuple[str, Pipeline], ...]
    background: bool = False


@dataclass(frozen=True)
class Block:
    """A list of commands."""

    items: tuple[AndOr, ...] = ()


def keeps_streams(item: AndOr) -> bool:
    """Whether a background job goes on writing where its shell does: not both of its streams are redirected."""
    for node in (node for _, pipeline in item.parts for node in pipeline.parts):
        if isinstance(node, Function):
            continue
        operators = {(redirect.fd, redirect.op) for redirect in node.redirects}
        both = any(op in ("&>", "&>>") for _, op in operators)
        out = any(fd == 1 and op.startswith(">") for fd, op in operators)
        err = any(fd == 2 and op.startswith(">") for fd, op in operators)
        if not both and not (out and err):
            return True
    return False
