"""Every PPO option of TRL 0.11.4 and 1.9.0, the last with a PPOTrainer, and its default: test/golden/trl-options.json; and those
of GRPO, RLOO, DPO, SFT and reward models in 1.16.0: test/golden/trl-1.16-options.json.

Read from the wheels, of which nothing is run:
    for v in 0.11.4 1.9.0 1.16.0; do pip download --no-deps trl==$v; done
    python tools/reference/trl_options.py trl-{0.11.4,1.9.0,1.16.0}-py3-none-any.whl
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


def options(wheel, file, name="PPOConfig"):
    tree = ast.parse(zipfile.ZipFile(wheel).read(file))
    config = next(c for c in tree.body if isinstance(c, ast.ClassDef) and c.name == name)
    return {a.target.id: default(a.value) for a in config.body if isinstance(a, ast.AnnAssign)}


golden = pathlib.Path(__file__).resolve().parents[2] / "test" / "golden"
*old, new = sys.argv[1:]
out = {version: options(wheel, FILES[version]) for version, wheel in zip(FILES, old, strict=True)}
(golden / "trl-options.json").write_text(json.dumps(out, indent=1) + "\n")
others = {name: options(new, f"trl/trainer/{name.lower()}_config.py", f"{name}Config") for name in ("GRPO", "RLOO", "DPO", "Reward", "SFT")}
(golden / "trl-1.16-options.json").write_text(json.dumps(others, indent=1) + "\n")
