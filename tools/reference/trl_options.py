"""Every PPO option of TRL 0.11.4 and 1.9.0, the last with a PPOTrainer, and its default: test/golden/trl-options.json.

Read from the wheels, of which nothing is run:
    pip download --no-deps trl==0.11.4 && pip download --no-deps trl==1.9.0
    python tools/reference/trl_options.py trl-0.11.4-py3-none-any.whl trl-1.9.0-py3-none-any.whl
"""
import ast
import json
import pathlib
import sys
import zipfile

FILES = {"0.11.4": "trl/trainer/ppo_config.py", "1.9.0": "trl/experimental/ppo/ppo_config.py"}


def default(value):
    """The text of a default; of dataclasses.field its default or factory."""
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "field":
        value = {k.arg: k.value for k in value.keywords}.get("default", value)
    return ast.unparse(value)


def options(wheel, file):
    tree = ast.parse(zipfile.ZipFile(wheel).read(file))
    config = next(c for c in tree.body if isinstance(c, ast.ClassDef) and c.name == "PPOConfig")
    return {a.target.id: default(a.value) for a in config.body if isinstance(a, ast.AnnAssign)}


out = {version: options(wheel, FILES[version]) for version, wheel in zip(FILES, sys.argv[1:], strict=True)}
path = pathlib.Path(__file__).resolve().parents[2] / "test" / "golden" / "trl-options.json"
path.write_text(json.dumps(out, indent=1) + "\n")
