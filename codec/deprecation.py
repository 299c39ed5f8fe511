"""Names of the version before, which are still understood for one version."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def former_keywords(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function take keyword arguments by their former names too, `former="present"`, with a
    `DeprecationWarning`."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for former in set(names) & set(kwargs):
                warn_of_former_name(former, names[former], stacklevel=3)
                kwargs[names[former]] = kwargs.pop(former)
            return function(*args, **kwargs)

        return call

    return decorate


def warn_of_former_name(former: str, present: str, stacklevel: int = 2) -> None:
    """Emit the `DeprecationWarning` of a name that the next version will not know; `stacklevel` as in
    `warnings.warn`."""
    warnings.warn(f"{former} is now called {present}", DeprecationWarning, stacklevel=stacklevel + 1)
