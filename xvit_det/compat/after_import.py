"""A call after another module's import."""

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType


class _CallAfterImport(MetaPathFinder):
    """The first entry of ``sys.meta_path`` until the module is imported.

    Args:
        name: The module's.
        action: Called once, right after the module's own code.
    """

    def __init__(self, name: str, action: Callable[[], None]) -> None:
        self.name = name
        self.action = action
        self.searching = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.name or self.searching:
            return None
        self.searching = True  # the other finders' turn
        try:
            spec = find_spec(fullname)
        finally:
            self.searching = False
        if spec is not None and spec.loader is not None:
            run_code = spec.loader.exec_module

            def run_and_call(module: ModuleType) -> None:
                sys.meta_path.remove(self)
                run_code(module)
                self.action()

            spec.loader.exec_module = run_and_call  # type: ignore[method-assign]
        return spec


def when_imported(name: str, action: Callable[[], None]) -> None:
    """Call ``action`` once the module of this name is imported, or now if it is already."""
    if sys.modules.get(name) is not None:
        action()
    else:
        sys.meta_path.insert(0, _CallAfterImport(name, action))
