"""The arrows of the layout: a folder imports only folders to its left."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "agora"
FOUNDATION = {"errors", "units", "log", "config", "settings", "files", "database"}
ORDER = [
    "posts", "text", "integrity", "corpus", "tokenizer", "model", "cluster", "training", "engine", "search", "chat", "ads", "server", "cli",
]  # fmt: skip
SLOW_IMPORTS = {"torch", "daft", "lancedb", "transformers", "fastapi", "matplotlib", "pyarrow", "numpy", "tokenizers"}


def imported_modules(path: Path) -> set[str]:
    """Every module named in an import of `path`, relative imports resolved to the package."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write agora.area.module"
            modules.add(node.module or "")
            if node.module == "agora":
                modules |= {f"agora.{alias.name}" for alias in node.names}
    return modules


@pytest.mark.parametrize("area", [name for name in ORDER if (PACKAGE / name).is_dir()])
def test_area_imports_only_areas_to_its_left(area: str) -> None:
    allowed = FOUNDATION | set(ORDER[: ORDER.index(area) + 1])
    for path in (PACKAGE / area).rglob("*.py"):
        for module in imported_modules(path):
            parts = module.split(".")
            if parts[0] == "agora" and len(parts) > 1 and parts[1] != "__version__":
                assert parts[1] in allowed, f"{path.relative_to(PACKAGE)} imports {module}, which stands to its right"


def test_every_folder_has_a_place_in_the_order() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert folders <= set(ORDER)


def test_foundation_imports_no_area() -> None:
    for name in FOUNDATION:
        for module in imported_modules(PACKAGE / f"{name}.py"):
            parts = module.split(".")
            assert parts[0] != "agora" or len(parts) == 1 or parts[1] in FOUNDATION, f"{name}.py imports {module}"


def test_model_imports_nothing_distributed() -> None:
    for path in (PACKAGE / "model").rglob("*.py"):
        assert not any(module.startswith("torch.distributed") for module in imported_modules(path)), path


def test_one_file_alone_knows_device_meshes() -> None:
    for path in PACKAGE.rglob("*.py"):
        meshes = any(module.startswith("torch.distributed.device_mesh") for module in imported_modules(path))
        assert not meshes or path.relative_to(PACKAGE).as_posix() == "training/parallelize.py", path


def test_command_line_imports_nothing_slow_at_module_level() -> None:
    for path in (PACKAGE / "cli").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = (
                [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module] if isinstance(node, ast.ImportFrom) else []
            )
            assert not {str(name).split(".")[0] for name in names} & SLOW_IMPORTS, f"{path.name} imports {names} at module level"
