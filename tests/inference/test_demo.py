"""The demonstration page answers with the run's probabilities, and only on this machine."""

import os
import socket
import sys
from importlib.util import find_spec

import psutil
import pytest
from conftest import COLORS

import meanteacher
from meanteacher.config.cli import main
from meanteacher.config.errors import UserError

needs_gradio = pytest.mark.skipif(find_spec("gradio") is None, reason="gradio is not installed")


@pytest.fixture(scope="module")
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def predictors(finished_run):
    return [meanteacher.load(finished_run, name, device="cpu") for name in ("teacher", "student")]


@pytest.fixture(scope="module")
def client(predictors, port):
    """A client of the page, which is served while the tests of this module run."""
    from gradio_client import Client

    from meanteacher.inference.demo import build_page, launch

    page = build_page("run", predictors)
    launch(page, port)
    yield Client(f"http://127.0.0.1:{port}", verbose=False, analytics_enabled=False)
    page.close(verbose=False)


@pytest.fixture
def paths(finished_run):
    return [next((finished_run.parent / "images/test" / name).iterdir()) for name in COLORS]


def handle(path):
    from gradio_client import handle_file

    return handle_file(path)


@needs_gradio
@pytest.mark.slow
def test_the_page_gives_the_probabilities_of_both_networks(client, predictors, paths):
    labels = client.predict(handle(paths[2]), api_name="/classify")
    for label, predictor in zip(labels, predictors, strict=True):
        shown = {each["label"]: each["confidence"] for each in label["confidences"]}
        expected = predictor.probabilities(paths[2])[0].tolist()
        assert [shown[name] for name in predictor.classes] == pytest.approx(expected, abs=1e-6)


@needs_gradio
@pytest.mark.slow
def test_several_images_are_a_table(client, predictors, paths, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(paths[0].read_bytes()[:40])
    table = client.predict([handle(path) for path in (*paths, broken)], api_name="/tabulate")
    assert table["headers"] == ["image", "teacher", "probability", "student", "probability"]
    names = [predictor.predict(paths).names for predictor in predictors]
    assert [(row[1], row[3]) for row in table["data"][:3]] == list(zip(*names, strict=True))
    assert table["data"][3][0] == "broken.png" and table["data"][3][2] == "" and "image" in table["data"][3][1]


@needs_gradio
@pytest.mark.slow
def test_the_page_listens_on_this_machine_only_and_needs_no_other(client, port):
    addresses = {c.laddr for c in psutil.Process().net_connections() if c.status == psutil.CONN_LISTEN}
    assert {address.ip for address in addresses if address.port == port} == {"127.0.0.1"}
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False" and "gradio.live" not in str(client.src)
    settings = client.config
    assert not settings.get("analytics_enabled") and "fonts.googleapis" not in str(settings)


@needs_gradio
@pytest.mark.slow
def test_a_port_in_use_is_one_line(client, predictors, port, finished_run, capsys):
    assert main(["demo", str(finished_run), "--port", str(port)]) == 1
    assert capsys.readouterr().err == f"error: port {port} is in use on 127.0.0.1; choose another --port\n"


def test_a_wrong_port_is_one_line(capsys):
    assert main(["demo", "run", "--port", "0"]) == 1
    assert capsys.readouterr().err == "error: --port 0: must be from 1 to 65535\n"


def test_gradio_missing_is_one_line(monkeypatch):
    from meanteacher.inference.demo import import_gradio

    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match=r"pip install -e '.\[demo\]'"):
        import_gradio()
