"""Exceptions of the solvers. Wrong input is a `ValueError`; running out of budget is a status, not an exception."""

from __future__ import annotations

__all__ = ["InputError", "MissingBackendError", "SoundnessError", "UnsupportedProblemError"]


class InputError(ValueError):
    """The question itself is wrong: a shape, a NaN, an empty box. The message says what was wanted and the way out."""


class UnsupportedProblemError(InputError):
    """A valid question that this method cannot answer. The message names the methods that can."""


class MissingBackendError(RuntimeError):
    """An optional package is not installed. The message names the extra that brings it, if there is one."""

    def __init__(self, feature: str, package: str, extra: str) -> None:
        wanted = f"'interlip[{extra}]'" if extra else package
        super().__init__(f"{feature} needs the package {package}: pip install {wanted}")
        self.package = package
        self.extra = extra


class SoundnessError(AssertionError):
    """A result contradicts itself or mathematics, such as a lower bound above an upper one. Always a bug of ours."""
