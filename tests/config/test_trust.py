"""A configuration of a stranger runs no code: neither through `_target_` nor through Hydra's own keys."""

import pytest
import yaml
from conftest import ROOT, TINY, command, parsed, settings
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from meanteacher.config import cli, trust
from meanteacher.config.errors import UserError
from meanteacher.config.settings import Settings
from meanteacher.config.signatures import find_definition
from meanteacher.runs.build import build

REFUSED = [
    "os.system",
    "posix.mkdir",
    "subprocess.run",
    "subprocess.Popen",
    "shutil.copyfile",
    "shutil.rmtree",
    "pathlib.Path",
    "builtins.exec",
    "builtins.eval",
    "builtins.open",
    "runpy.run_path",
    "pickle.load",
    "importlib.import_module",
    "webbrowser.open",
    "urllib.request.urlretrieve",
    "numpy.load",
    "pandas.read_pickle",
    "joblib.load",
    "torch.load",
    "torch.save",
    "torch.hub.load",
    "torch.hub.load_state_dict_from_url",
    "torch.jit.load",
    "torch.package.PackageImporter",
    "torch.serialization.load",
    "torch.utils.cpp_extension.load",
    "torch.utils.model_zoo.load_url",
    "torch.ops.load_library",
    "torch.classes.load_library",
    "torch.distributed.init_process_group",
    "torch.multiprocessing.spawn",
    "torchvision.models.get_model",
    "timm.create_model",
    "hydra.utils.instantiate",
    "hydra.utils.get_method",
    "hydra.utils.call",
    "meanteacher.config.files.write_atomically",
    "meanteacher.config.trust.trust_packages",
    "meanteacher.data.cache._remove",
    "meanteacher.data.cache.load_or_decode",
    "meanteacher.data.cache.shutil.rmtree",
    "meanteacher.data.folder.fingerprint",
    "meanteacher.runs.run_dir.RunDir",
    "meanteacher.runs.build.build",
    "meanteacher.training.checkpoint.Checkpoints",
]

PLACES = {
    "top": lambda node: {"method": node},
    "nested": lambda node: {"method": {"_target_": "meanteacher.methods.supervised.Supervised", "student": node}},
    "list": lambda node: {"augment": {"views": {"weak": [[node]]}}},
    "partial": lambda node: {"optimizer": node | {"_partial_": True}},
    "logger": lambda node: {"logger": {"mine": node}},
}


@pytest.fixture(autouse=True)
def nothing_trusted(monkeypatch):
    monkeypatch.setattr(trust, "trusted", set())


@pytest.mark.parametrize("target", REFUSED)
def test_dangerous_targets_are_refused_wherever_they_are(target):
    for place in PLACES.values():
        with pytest.raises(UserError, match="_target_=") as caught:
            trust.check_targets(place({"_target_": target, "_args_": ["x"]}))
        assert "\n" not in str(caught.value) and str(caught.value).count("_target_=") == 1


@pytest.mark.parametrize("target", ["os.system", "torch.load", "torch.hub.load", "numpy.load"])
def test_they_are_refused_by_the_settings_and_when_an_object_is_built(target):
    node = {"_target_": target}
    for config in (settings() | {"method": node}, settings() | {"logger": {"x": node}}):
        with pytest.raises(UserError, match=f"_target_={target}: a configuration may not run code of"):
            Settings.parse(config)
    for value in (node, [node], {"weak": {"x": [node]}}):
        with pytest.raises(UserError, match="may not run code"):
            build({"_target_": "meanteacher.data.augment.Augment", "views": value})


@pytest.mark.parametrize("target", [None, 3, ["os.system"], {"a": 1}, print])
def test_a_target_must_be_a_name(target):
    with pytest.raises(UserError, match="must be a name"):
        trust.check_targets({"_target_": target}, "method")


def test_an_interpolation_cannot_smuggle_a_target_past_the_check():
    """`\\${…}` in a file is `${…}` in the composed configuration, which Hydra would resolve when building."""
    hidden = "${oc.create:'{_target_: os.getcwd}'}"
    node = {"_target_": "meanteacher.models.resnet.ResNet", "width": hidden}
    for check in (build, trust.check_targets):
        with pytest.raises(UserError, match="an interpolation is left"):
            check(node)
    with pytest.raises(UserError, match="an interpolation is left"):
        Settings.parse(settings() | {"model": node})


def test_own_classes_and_those_of_pytorch_are_allowed():
    for path in sorted((ROOT / "conf").glob("*/*.yaml")):
        for target in targets(yaml.safe_load(path.read_text())):
            trust.check_targets({"_target_": target})
    for target in ("torch.optim.RMSprop", "torch.nn.modules.activation.ReLU", "meanteacher.methods.Teacher"):
        trust.check_targets({"_target_": target})


def targets(node) -> list[str]:
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    own = [node["_target_"]] if isinstance(node, dict) and "_target_" in node else []
    return own + [target for value in inner for target in targets(value)]


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "own_code.py").write_text(
        "from os import system\nfrom meanteacher.models import Network\nimport os\n\nclass Net(Network): ...\n"
        "def data(*, x: Field(default_factory=1 / 0)) -> 'Dataset': ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


def test_own_modules_need_trust_and_give_no_way_to_others(own_module):
    config = {"model": {"_target_": "own_code.Net"}, "method": {"_target_": "other.Thing"}}
    with pytest.raises(UserError, match=r"if you trust .* add 'trusted_packages=\[other,own_code\]' to the command$"):
        trust.check_targets(config)
    with pytest.raises(UserError, match="may not run code of"):
        trust.check_targets({"_target_": "own_code.data"})  # nor are its annotations evaluated
    trust.trust_packages("own_code")
    trust.check_targets(config["model"])
    trust.check_targets({"_target_": "own_code.Network"})
    for target in ("own_code.system", "own_code.os.system", "own_code.os", "own_codes.Net", "own_code"):
        with pytest.raises(UserError, match="may not run code of"):
            trust.check_targets({"_target_": target})
    assert find_definition("own_code", "Net")[0] is not None


@pytest.mark.parametrize("names", ["a b", [3], ["a.b-c"], [""]])
def test_what_is_not_a_module_cannot_be_trusted(names):
    with pytest.raises(UserError, match="not the name of a module"):
        trust.trust_packages(names)


def test_trust_is_given_by_an_override_and_is_no_part_of_the_run():
    plain = settings("trusted_packages=[my_module,my.other]")
    assert trust.trusted == {"my_module", "my.other"} and "trusted_packages" not in plain
    assert Settings.parse(plain).digest == parsed().digest
    settings("trusted_packages=one")
    assert "one" in trust.trusted


def test_every_command_takes_trusted_packages():
    assert cli.trust_named(["RUN", "trusted_packages=[a, b.c]", "trusted_packages=d"]) == ["RUN"]
    assert trust.trusted == {"a", "b.c", "d"}
    with pytest.raises(UserError, match="not the name of a module"):
        cli.trust_named(["trusted_packages="])


GLOBAL = "# @package _global_\n"

STRANGERS = {
    "trusted_packages": "trusted_packages: [os]\n",
    "hydra.callbacks": "hydra:\n  callbacks:\n    x:\n      _target_: subprocess.run\n      args: [touch, hit]\n",
    "hydra.job.env_set": "hydra:\n  job:\n    env_set:\n      WANDB_BASE_URL: http://x\n",
    "hydra.job_logging": "hydra:\n  job_logging:\n    formatters:\n      x:\n        (): subprocess.call\n",
    "hydra.hydra_logging": "hydra:\n  hydra_logging:\n    handlers:\n      x:\n        class: own_code.Handler\n",
    "hydra.job_logging ": "hydra:\n  job_logging:\n    handlers:\n      x:\n        filename: ~/.bashrc\n",
    "hydra.sweeper.params": "hydra:\n  sweeper:\n    params:\n      trusted_packages: '[os]'\n",
}


@pytest.mark.parametrize("key", STRANGERS)
def test_a_yaml_file_sets_no_key_that_runs_code(key, tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/stranger.yaml").write_text(GLOBAL + STRANGERS[key])
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        overrides = [f"hydra.searchpath=[file://{tmp_path}]", "experiment=stranger"]
        with pytest.raises(UserError, match=f"{key.strip()}.*runs code"):
            compose("config", overrides, return_hydra_config=True)
        if key.strip() in ("trusted_packages", "hydra.callbacks", "hydra.job.env_set"):
            given = {"hydra.callbacks": ["hydra.callbacks.x._target_=a.B", "hydra.callbacks.x.args=[c]"]}
            given |= {
                "trusted_packages": ["trusted_packages=[x]"],
                "hydra.job.env_set": ["hydra.job.env_set.WANDB_BASE_URL=y"],
            }
            compose("config", [*overrides, *given[key]], return_hydra_config=True)
            with pytest.raises(UserError):
                compose(
                    "config", [*overrides, "+hydra.callbacks.y=1", "+hydra.job.env_set.Y='1'"], return_hydra_config=True
                )


def test_a_strangers_folder_runs_nothing_through_the_command(tmp_path):
    (tmp_path / "conf/experiment").mkdir(parents=True)
    (tmp_path / "conf/experiment/evil.yaml").write_text(GLOBAL + STRANGERS["hydra.callbacks"])
    done = command("--config-dir=conf", "experiment=evil", *TINY[1:], cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: hydra.callbacks: a yaml file may not set this")
    assert [path.name for path in tmp_path.iterdir()] == ["conf"]


def test_the_sweeps_and_launchers_of_the_project_are_allowed():
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        sweeps = [f"sweep={path.stem}" for path in sorted((ROOT / "sweeps/sweep").glob("*.yaml"))]
        launchers = ["hydra/launcher=submitit_slurm", "hydra/sweeper=optuna", "hydra/job_logging=default"]
        for override in [*sweeps, *launchers]:
            assert loader.load_configuration("config", [override], run_mode=RunMode.MULTIRUN)
