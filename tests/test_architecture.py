"""Who may import whom, read from the source and not by running it."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "vlm_jax").rglob("*.py"))

# A room (a folder, or a file beside them) -> what of ours it may import besides itself.
MAY_IMPORT = {
    "__init__": set(),
    "types": set(),
    "config": set(),
    "memory": set(),
    "main": {"commands", "config", "memory"},
    # data: pictures and texts given on the command line; metrics: CLIPScore by another run
    "commands": {"train", "report", "config", "data", "metrics"},
    "layers": {"types"},
    "decoding": {"types"},
    "text": {"types"},
    "metrics": {"text", "types"},  # text: how a scorer splits words, what a scene's sentence says
    "vision": {"layers", "types"},
    "language": {"layers", "types"},
    "fusion": {"layers", "types"},
    "models": {"types"},  # the parts arrive as fields
    "tasks": {"metrics", "decoding", "text", "types"},
    "data": {"text", "types", "config"},  # config: cached features are named by their description
    "train": {"metrics", "config", "types"},
    # A published model is put together of all rooms' parts; text: its tokenizer; data: what is done to its pictures
    "pretrained": {"layers", "vision", "language", "fusion", "models", "text", "data", "types"},
    "report": {"types"},
}
TRAIN_READS_OF_METRICS = {"vlm_jax.metrics.base"}  # the loop knows no metric by name

# Slow or optional: imported inside the function that needs them, in one place.
HEAVY = {
    "tensorflow_datasets": {"data"},
    "grain": {"data"},
    "array_record": {"data"},
    "PIL": {"data", "report"},
    "orbax": {"train/checkpoints"},
    "tensorboardX": {"train/logs"},
    "rich": {"train/logs", "report"},
    "matplotlib": {"report"},
    "tokenizers": {"text"},
    "sacrebleu": {"metrics"},
    "pycocoevalcap": {"metrics"},
    "safetensors": {"pretrained"},
    "huggingface_hub": {"pretrained"},
}
# A TFDS builder is a class derived from theirs. Its file is itself imported inside a function.
BUILDERS = ROOT / "vlm_jax" / "data" / "datasets"
NEVER = {"tensorflow", "torch", "torchvision", "pickle", "joblib", "dill", "cloudpickle", "nltk"}


def imports(path: Path) -> Iterator[tuple[str, int, bool]]:
    """(dotted name, line, at module level) of every import in the file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        top = id(node) not in inside
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, top
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import; write it out"
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno, top


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT / "vlm_jax").with_suffix("").parts
    return parts[0]


def test_rooms_import_only_what_the_architecture_lets_them():
    wrong = []
    for path in FILES:
        room = room_of(path)
        if path.name == "__main__.py":
            room = path.parent.name
        assert room in MAY_IMPORT, f"{room} is a new room: say in this test what it may import"
        for name, line, _ in imports(path):
            package, *rest = name.split(".")
            where = f"{path.relative_to(ROOT)}:{line} imports {name}"
            if package in ("experiments", "benchmarks", "tests"):
                wrong.append(where)
            if package != "vlm_jax" or not rest or rest[0] == room:
                continue
            if rest[0] == "__version__":
                continue
            if rest[0] not in MAY_IMPORT[room]:
                wrong.append(f"{where}; {room} may import {sorted(MAY_IMPORT[room])}")
            if room == "train" and rest[0] == "metrics":
                if ".".join(name.split(".")[:3]) not in TRAIN_READS_OF_METRICS:
                    wrong.append(f"{where}; train may import metrics.base only")
    assert not wrong, "\n".join(wrong)


def test_heavy_libraries_stay_in_their_rooms_and_inside_functions():
    wrong = []
    for path in FILES:
        inside = path.relative_to(ROOT / "vlm_jax").with_suffix("").as_posix()
        for name, line, top in imports(path):
            package = name.split(".")[0]
            where = f"{path.relative_to(ROOT)}:{line} imports {name}"
            if package in NEVER:
                wrong.append(f"{where}, which nothing here may need")
            if package not in HEAVY:
                continue
            homes = HEAVY[package]
            if not any(inside == home or inside.startswith(f"{home}/") for home in homes):
                wrong.append(f"{where}; it is at home in {sorted(homes)}")
            if top and path.parent != BUILDERS:
                wrong.append(f"{where} at module level; import it in the function that needs it")
    assert not wrong, "\n".join(wrong)


def test_builders_are_imported_inside_functions():
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in FILES
        if path.parent != BUILDERS
        for name, line, top in imports(path)
        if top and name.startswith("vlm_jax.data.datasets")
    ]
    assert not wrong, "\n".join(wrong)


def test_importing_the_command_line_imports_neither_jax_nor_tfds():
    code = (
        "import sys, vlm_jax.main; "
        "heavy = {'jax', 'flax', 'numpy', 'tensorflow_datasets', 'grain'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)


def test_importing_the_rooms_of_a_training_step_imports_no_heavy_library():
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for room in ("train", "tasks", "models", "decoding", "language", "vision", "fusion")
        for path in sorted((ROOT / "vlm_jax" / room).glob("*.py"))
        if not path.stem.startswith("__")
    ]
    assert modules
    code = (
        "import sys, flax.linen, optax; before = set(sys.modules); "
        f"import {', '.join(modules)}; "
        f"heavy = {sorted(HEAVY) + sorted(NEVER)}; "
        "heavy = {name for name in set(sys.modules) - before if name.split('.')[0] in heavy}; "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=120)


def test_nothing_loads_or_runs_code_from_data():
    wrong = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            where = f"{path.relative_to(ROOT)}:{node.lineno} calls {name}"
            if name in ("eval", "exec", "torch.load", "yaml.load", "os.system"):
                wrong.append(where)
            for keyword in node.keywords:
                on = isinstance(keyword.value, ast.Constant) and keyword.value.value is True
                if on and keyword.arg in ("allow_pickle", "trust_remote_code", "shell"):
                    wrong.append(f"{where} with {keyword.arg}=True")
    assert not wrong, "\n".join(wrong)


def test_init_files_are_empty_and_no_room_is_a_drawer():
    for path in FILES:
        if path.name == "__init__.py" and path.parent.name != "vlm_jax":
            assert not path.read_text().strip(), f"{path} should be empty"
        for part in path.relative_to(ROOT).with_suffix("").parts:
            assert part not in ("utils", "util", "common", "core", "helpers", "misc"), path
    for folder in {path.parent for path in FILES}:
        assert (folder / "__init__.py").exists(), f"{folder} lacks its __init__.py"
