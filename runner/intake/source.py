"""What a manifest points at, looked at without running any of it."""

from __future__ import annotations

import ast
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from runner.domain.text import one_line
from runner.errors import InvalidSubmission

MAX_MODULE_BYTES = 1024 * 1024
MAX_NAMES_SHOWN = 10


@contextmanager
def reading(target: Path) -> Iterator[None]:
    """Turns an OSError of its block (no permission, a name too long) into InvalidSubmission."""
    try:
        yield
    except OSError as error:
        path = one_line(str(error.filename or target))
        reason = (error.strerror or str(error)).lower()
        raise InvalidSubmission(
            f"{path} cannot be read: {reason}",
            remedy="check the path, and that this user may read it",
        ) from None


def check_file(source: Path, name: str, field_name: str) -> Path:
    """The regular file `name` in `source`, links followed but never out of it."""
    path = source / name
    shown = f"submission.toml: agent_endpoint.{field_name} = {one_line(name)!r}"
    try:
        real = path.resolve(strict=True)
        mode = real.stat().st_mode
    except (OSError, RuntimeError):
        raise InvalidSubmission(
            f"{shown}: there is no such file in {one_line(str(source))}", remedy="correct the path"
        ) from None
    if not real.is_relative_to(source):
        raise InvalidSubmission(
            f"{shown}: leads out of the submission's directory", remedy="put the file itself there"
        )
    if not stat.S_ISREG(mode):
        raise InvalidSubmission(f"{shown}: is not a regular file", remedy="correct the path")
    return real


def check_function(source: Path, module: str, function: str) -> None:
    """Raises InvalidSubmission unless `module` in `source` defines `function`, by its syntax."""
    path = _module_file(source, module)
    names = _names_of(path)
    if function in names.bound or names.open_ended:
        return
    raise InvalidSubmission(
        f"{one_line(str(path))} has no function {function!r};"
        f" it defines {_listing(names.functions)}",
        remedy="correct function_name",
    )


def _module_file(source: Path, module: str) -> Path:
    relative = module.replace(".", "/")
    for name in (f"{relative}/__init__.py", f"{relative}.py"):
        if (source / name).exists():
            return check_file(source, name, "module_path")
    raise InvalidSubmission(
        f"submission.toml: agent_endpoint.module_path = {module!r}: there is neither"
        f" {relative}.py nor {relative}/__init__.py in {one_line(str(source))}",
        remedy="correct module_path, or add the file",
    )


def _listing(functions: Sequence[str]) -> str:
    if not functions:
        return "none"
    shown = ", ".join(one_line(name, 60) for name in functions[:MAX_NAMES_SHOWN])
    return shown + (", ..." if len(functions) > MAX_NAMES_SHOWN else "")


# -- names that a module binds -----------------------------------------------------------------


@dataclass
class _Names:
    """What running a module would bind at its top level, as far as its syntax tells."""

    functions: list[str] = field(default_factory=list)
    bound: set[str] = field(default_factory=set)
    """Functions, and what imports, assignments and classes bind: any of it may be callable."""
    open_ended: bool = False
    """A star import or a module-level `__getattr__`: anything may be there."""


def _names_of(path: Path) -> _Names:
    names = _Names()
    for statement in _top_level(_parsed(path).body):
        _note(statement, names)
    names.open_ended = names.open_ended or "__getattr__" in names.functions
    return names


def _parsed(path: Path) -> ast.Module:
    shown = one_line(str(path))
    with path.open("rb") as file:
        data = file.read(MAX_MODULE_BYTES + 1)
    if len(data) > MAX_MODULE_BYTES:
        raise InvalidSubmission(
            f"{shown} is larger than {MAX_MODULE_BYTES // 1024} KiB",
            remedy="move the agent's function to a smaller module that imports the rest",
        )
    try:
        return ast.parse(data)
    except SyntaxError as error:
        raise InvalidSubmission(
            f"{shown}, line {error.lineno or 1}: not valid Python: {one_line(error.msg)}",
            remedy="mend that line",
        ) from None
    except (ValueError, RecursionError, MemoryError):
        raise InvalidSubmission(
            f"{shown} is not Python that can be parsed", remedy="check that it is source text"
        ) from None


def _top_level(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when the module is imported, those in if, try, with, loops too."""
    pending = list(body)
    while pending:
        statement = pending.pop(0)
        yield statement
        for name in ("body", "orelse", "finalbody"):
            if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                pending += getattr(statement, name, [])
        for handler in getattr(statement, "handlers", []):
            pending += handler.body


def _note(statement: ast.stmt, names: _Names) -> None:
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            names.functions.append(name)
            names.bound.add(name)
        case ast.ClassDef(name=name):
            names.bound.add(name)
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            names.open_ended = names.open_ended or any(a.name == "*" for a in aliases)
            names.bound |= {(a.asname or a.name).partition(".")[0] for a in aliases}
        case ast.Assign() | ast.AnnAssign() | ast.With() | ast.For():
            stored = (n for n in ast.walk(_targets(statement)) if isinstance(n, ast.Name))
            names.bound |= {n.id for n in stored if isinstance(n.ctx, ast.Store)}
        case _:
            pass


def _targets(statement: ast.Assign | ast.AnnAssign | ast.With | ast.For) -> ast.AST:
    """A node whose tree holds what `statement` binds, and not the statements within it."""
    match statement:
        case ast.Assign(targets=targets):
            return ast.Tuple(elts=targets, ctx=ast.Store())
        case ast.With(items=items):
            bound = [i.optional_vars for i in items if i.optional_vars is not None]
            return ast.Tuple(elts=bound, ctx=ast.Store())
        case _:
            return statement.target
