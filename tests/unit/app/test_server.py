"""The app over plain HTTP: who gets in, what is refused, and that every form works without a script."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bitwright
from bitwright.app.guard import HEADERS, LARGEST_FORM
from bitwright.app.server import HOST, listening, state_folder
from bitwright.app.session import Session
from bitwright.app.settings import Step
from bitwright.app.uploads import keep, offered, safe_name
from bitwright.errors import BadModelFile, InputMismatch
from bitwright.export.verify import program_sha256
from bitwright.quantized import Quantized
from hostile import IMG, NAMES
from running_app import TOKEN, Running, running

DEMO = Path(bitwright.__file__).parent / "demo"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("sessions")) as found:
        yield found


@pytest.fixture(scope="module")
def example(app: Running) -> Session:
    """The example, opened, calibrated, quantized and validated."""
    session = app.routes.opener.example()
    app.wait(session)
    for step in ("calibrate", "validate"):
        assert app.ask(f"/s/{session.name}/run/{step}", form={}).status == 303
        app.wait(session)
    assert [session.mark(step) for step in list(Step)[:5]] == ["done"] * 5
    return session


# ---------------------------------------------------------------------- who gets in


def test_the_token_becomes_a_cookie_and_leaves_the_address(app: Running) -> None:
    answer = app.ask(f"/s/abc?token={TOKEN}&tab=log", headers={"Cookie": None})
    assert answer.status == 200
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert "SameSite=Strict" in answer.headers["set-cookie"]
    assert "url=/s/abc?tab=log" in answer.text
    assert TOKEN not in answer.text


def test_an_address_cannot_lead_elsewhere(app: Running) -> None:
    for path in ("//evil.example/", "/%2F%2Fevil.example", "///evil.example"):
        answer = app.ask(f"{path}?token={TOKEN}", headers={"Cookie": None})
        assert not re.search(r"url=(?:https?:)?//", answer.text), answer.text


@pytest.mark.parametrize("cookie", [None, "x=1", "bitwright-1=a-token-for-tests", "{own}x", "{own}=", ";;==", "ü=ß"])
def test_without_the_token_there_is_nothing(app: Running, cookie: str | None) -> None:
    own = f"bitwright-{app.port}"
    shown = None if cookie is None else cookie.replace("{own}", own).encode().decode("latin-1")
    for path in ("/", "/static/app.js", "/s/0123456789ab", "/paths?text=/"):
        answer = app.ask(path, headers={"Cookie": shown})
        assert answer.status == 403, (path, cookie)
    assert app.ask(f"/?token={TOKEN}x", headers={"Cookie": None}).status == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "localhost", "127.0.0.1:1", "", "evil.example:{port}", None]
)
def test_other_hosts_are_refused(app: Running, host: str | None) -> None:
    shown = None if host is None else host.replace("{port}", str(app.port))
    assert app.ask("/", headers={"Host": shown}).status in {400, 421}


def test_both_names_of_this_machine_work(app: Running) -> None:
    assert app.ask("/", headers={"Host": f"localhost:{app.port}"}).status == 200
    assert app.ask("/").status == 200


@pytest.mark.parametrize(
    "origin", [None, "null", "http://evil.example", "https://127.0.0.1:{port}", "http://localhost:{port}"]
)
def test_changes_need_our_own_origin(app: Running, origin: str | None) -> None:
    shown = None if origin is None else origin.replace("{port}", str(app.port))
    answer = app.ask("/open", form={"example": "1"}, headers={"Origin": shown})
    assert answer.status == 403


def test_other_sites_may_lead_here_but_not_read(app: Running) -> None:
    other = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert app.ask("/", headers=other).status == 403
    assert app.ask("/", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}).status == 200
    assert app.ask("/open", form={"example": "1"}, headers=other).status == 403


def test_every_answer_has_a_strict_policy(app: Running, example: Session) -> None:
    base = f"/s/{example.name}"
    for path in (
        "/",
        base,
        "/static/app.js",
        "/static/marks.css",
        "/nowhere",
        f"{base}/network.bw",
        f"{base}/whatif?mark=x",
    ):
        answer = app.ask(path)
        for name, value in HEADERS.items():
            assert answer.headers[name] == value, (path, name)
        assert "server" not in answer.headers or "uvicorn" not in answer.headers["server"]
    policy = HEADERS["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    report = app.ask(f"{base}/report").headers["content-security-policy"]
    assert report.startswith("sandbox allow-scripts; default-src 'none'")
    assert app.ask("/static/app.js", headers={"Cookie": None}).headers["content-security-policy"] == policy


def test_pages_hold_no_script_and_no_style_of_their_own(app: Running, example: Session) -> None:
    for query in ("", "?tab=log", "?tab=compare", "?tab=folds", "?step=calibrate", "?step=export", "?tab=memory"):
        text = app.ask(f"/s/{example.name}{query}").text
        assert re.findall(r"<script[^>]*>", text) == ['<script type="module" src="/static/app.js">']
        assert not re.search(r"<style|\sstyle=|\son\w+=", text)
        assert not re.search(r"(?:href|src|action)=\"(?:https?:)?//", text)


# ---------------------------------------------------------------------- sizes and paths


def test_large_requests_are_refused(app: Running, example: Session) -> None:
    base = f"/s/{example.name}/edit"
    told = app.ask(base, method="POST", body=b"", headers={"Content-Length": str(LARGEST_FORM + 1)})
    assert told.status == 413
    assert app.ask(base, method="POST", body=b"", headers={"Content-Length": "many"}).status in {400, 413}


@pytest.mark.parametrize(
    "name", ["../server.py", "..%2Fserver.py", "%2Fetc%2Fpasswd", "app.py", "", "no.js", "..\\x.js"]
)
def test_only_the_apps_own_files_are_served(app: Running, name: str) -> None:
    assert app.ask(f"/static/{name}").status == 404


@pytest.mark.parametrize("name", ["..", "../x", "0123456789AB", "0123456789abc", "%2e%2e", "x" * 12, "0123456789ab"])
def test_sessions_are_named_by_us(app: Running, name: str) -> None:
    assert app.ask(f"/s/{name}").status == 404


def test_names_of_uploads_are_made_safe(tmp_path: Path) -> None:
    assert safe_name("../../etc/passwd.onnx") == "passwd.onnx"
    assert safe_name("C:\\x\\é ü<img>.ONNX") == "img.onnx"
    assert safe_name(".onnx.onnx") == "onnx.onnx"
    assert len(safe_name("x" * 999 + ".npz")) <= 80
    for name in NAMES:
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,80}", safe_name(f"{name}.onnx")), name
    for wrong in ("x", "x.exe", "", ".onnx/", "x.py", "x.pkl"):
        with pytest.raises(BadModelFile, match="nothing that the app reads"):
            safe_name(wrong)
    with (DEMO / "digits.onnx").open("rb") as source:
        first = keep(tmp_path, "a.onnx", source)
    with (DEMO / "digits.onnx").open("rb") as source:
        second = keep(tmp_path, "../a.onnx", source)
    assert (first.name, second.name) == ("a.onnx", "a-2.onnx")
    assert {p.name for p in tmp_path.iterdir()} == {"a.onnx", "a-2.onnx"}


def test_paths_are_offered(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "net.onnx").touch()
    (tmp_path / "secret.txt").touch()
    assert offered(f"{tmp_path}/") == [f"{tmp_path}/folder/", f"{tmp_path}/net.onnx"]
    assert offered(f"{tmp_path}/n") == [f"{tmp_path}/net.onnx"]
    assert offered("/nowhere/at/all/") == []
    assert offered("\0") == []
    assert offered("~nobody-such/x") == []


def boundary(parts: list[tuple[str, str, bytes]]) -> tuple[bytes, str]:
    body = b"".join(
        f'--line\r\nContent-Disposition: form-data; name="{name}"; filename="{file}"\r\n\r\n'.encode() + data + b"\r\n"
        for name, file, data in parts
    )
    return body + b"--line--\r\n", "multipart/form-data; boundary=line"


def test_a_network_is_opened_from_a_file(app: Running) -> None:
    body, kind = boundary(
        [
            ("files", "di gits.onnx", (DEMO / "digits.onnx").read_bytes()),
            ("files", "x.toml", (DEMO / "digits.toml").read_bytes()),
        ]
    )
    answer = app.ask("/upload", method="POST", body=body, headers={"Content-Type": kind})
    assert answer.status == 303
    session = app.routes.sessions.get(answer.headers["location"].removeprefix("/s/"))
    assert session is not None
    app.wait(session)
    assert session.mark(Step.NETWORK) == "done"
    assert session.title == "di gits.onnx"
    assert session.model().contract.color == "gray", "the contract beside it came along"
    text = app.ask(f"/s/{session.name}").text
    assert "stem_conv" in text


def test_what_does_not_open_says_why(app: Running, tmp_path: Path) -> None:
    body, kind = boundary([("files", "x.exe", b"MZ")])
    asked: list[dict[str, Any]] = [
        {"path": "/upload", "method": "POST", "body": body, "headers": {"Content-Type": kind}},
        *(
            {"path": "/open", "form": form}
            for form in ({"path": "/no/x.onnx"}, {"path": "os:system"}, {"path": "\0"}, {})
        ),
    ]
    for one in asked:
        answer = app.ask(**one)
        assert answer.status == 303
        assert answer.headers["location"] == "/"
        assert "That did not open" in app.ask("/").text
        assert "That did not open" not in app.ask("/").text
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    opened = app.ask("/open", form={"path": str(tmp_path / "bad.onnx")})
    session = app.routes.sessions.get(opened.headers["location"].removeprefix("/s/"))
    assert session is not None
    app.wait(session)
    text = app.ask(f"/s/{session.name}").text
    assert "Opening stopped" in text
    assert "Traceback" not in text
    assert "Traceback" in app.ask(f"/s/{session.name}?tab=log").text


# ---------------------------------------------------------------------- forms, without a script


def test_edits_make_steps_stale_and_undo_brings_them_back(app: Running, example: Session) -> None:
    base = f"/s/{example.name}"
    answer = app.ask(f"{base}/edit", form={"target": "generic", "back": "?tab=log"})
    assert (answer.status, answer.headers["location"]) == (303, f"{base}?tab=log")
    assert [example.mark(s) for s in (Step.CALIBRATE, Step.QUANTIZE, Step.VALIDATE)] == ["done", "stale", "stale"]
    text = app.ask(base).text
    assert "from before your last edit" in text
    assert "stale: settings were changed since" in text
    app.ask(f"{base}/undo", form={})
    assert [example.mark(s) for s in (Step.CALIBRATE, Step.QUANTIZE, Step.VALIDATE)] == ["done", "done", "done"]
    assert "from before your last edit" not in app.ask(base).text
    app.ask(f"{base}/redo", form={})
    assert example.settings.target == "generic"
    app.ask(f"{base}/undo", form={})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"target": "fpgaa"}, "Did you mean fpga"),
        ({"target_file": "/nowhere.toml"}, "no such file"),
        ({"scheme": "minmaxx"}, "Did you mean"),
        ({"mend": "equalise"}, "Did you mean"),
        ({"data": "/nowhere/images"}, "There is no data"),
        ({"data": "os:system"}, "for the command line"),
        ({"samples": "-3"}, "whole number"),
        ({"samples": "1e9"}, "whole number"),
        ({"seconds": "0"}, "whole number"),
        ({"metric": IMG}, "There is no metric"),
        ({"contract": "1", "mean": "x", "std": "1"}, "numbers with commas"),
        ({"mend": "x" * 5000}, "is the most"),
    ],
)
def test_what_cannot_be_is_said_and_changes_nothing(
    app: Running, example: Session, fields: dict[str, str], words: str
) -> None:
    before = example.settings
    answer = app.ask(f"/s/{example.name}/edit", form=fields)
    assert answer.status == 303
    text = app.ask(f"/s/{example.name}").text
    assert "That did not work" in text
    assert words in text
    assert "<img" not in text
    assert example.settings == before
    app.ask(f"/s/{example.name}/edit", form={})
    assert "That did not work" not in app.ask(f"/s/{example.name}").text


def test_a_type_is_tried_refused_and_applied_without_a_script(app: Running, example: Session) -> None:
    page = example.page()
    assert page is not None
    base = f"/s/{example.name}"
    tensor = next(t for t in page[0].tensors if t.name == "classify.Weights")
    from bitwright.app.ask import mark_of

    mark = mark_of(tensor.name)
    tried = app.ask(f"{base}/whatif?mark={mark}&shift=1").text
    assert "was " in tried
    assert f"2<sup>{str(tensor.type.bottom + 1).replace('-', '−')}" in tried
    forbidden = app.ask(f"{base}/whatif?mark={mark}&bits=4").text
    assert "it has 8 bits there (weight.bits)" in forbidden
    assert app.ask(f"{base}/whatif?mark={mark}&bits=99").status == 422
    assert app.ask(f"{base}/whatif?mark={mark}&bits=x").status == 422
    assert app.ask(f"{base}/whatif?mark=0000000000").status == 409
    assert app.ask(f"{base}/whatif?mark={mark}&scheme=mse").status == 200
    # The fields alone, as a browser without a script sends them.
    fields = {"mark": mark, "format": tensor.type.text, "bits": "8", "signed": "yes", "scheme": ""}
    app.ask(f"{base}/formats", form={**fields, "bits": "4", "fraction": str(-tensor.type.bottom)})
    assert "it has 8 bits there" in app.ask(base).text
    assert app.ask(f"{base}/formats", form={**fields, "fraction": str(-tensor.type.bottom - 1)}).status == 303
    app.wait(example)
    assert example.settings.given == {"classify.Weights": f"int8·2^{tensor.type.bottom + 1}"}
    assert example.mark(Step.VALIDATE) == "done", "applying measures again"
    found = example.quantized()
    assert found is not None
    assert found[0].provenance["formats"]["given"] == example.settings.given
    log = app.ask(f"{base}?tab=log").text
    assert "--format &#x27;classify.Weights=int8·2^" in log
    app.ask(f"{base}/formats", form={"mark": mark, "reset": "one"})
    app.wait(example)
    assert example.settings.given == {}


def test_several_types_move_together(app: Running, example: Session) -> None:
    from bitwright.app.ask import mark_of

    page = example.page()
    assert page is not None
    names = [t.name for t in page[0].tensors if t.kind == "Weights"]
    marks = ".".join(map(mark_of, names))
    text = app.ask(f"/s/{example.name}?pick={marks}").text
    assert f"{len(names)} tensors" in text
    app.ask(f"/s/{example.name}/formats", form={"marks": marks, "shift": "1"})
    app.wait(example)
    assert set(example.settings.given) == set(names)
    app.ask(f"/s/{example.name}/formats", form={"reset": "all"})
    app.wait(example)
    assert example.settings.given == {}


def test_only_json_is_given_to_the_script_and_only_what_it_asks(app: Running, example: Session) -> None:
    answer = app.ask(f"/s/{example.name}?tab=folds", headers={"X-Panels": "middle,nonsense,__init__"})
    assert set(answer.json["panels"]) == {"middle"}
    assert answer.json["query"] == "?tab=folds"


def test_compare_with_another_target_and_with_files(app: Running, example: Session) -> None:
    base = f"/s/{example.name}"
    app.ask(f"{base}/variant", form={"target": "generic", "scheme": ""})
    app.wait(example)
    assert example.settings.target == "fpga"
    other = example.shown["other"]
    text = app.ask(f"{base}?tab=compare&other={other}").text
    assert "tensors have other formats" in text
    assert "A fpga / B generic" in text
    report = app.ask(f"{base}/report.html")
    assert report.headers["content-disposition"].startswith("attachment")
    body, kind = boundary([("files", "old report.html", report.text.encode())])
    app.ask(f"{base}/upload?for=other", method="POST", body=body, headers={"Content-Type": kind})
    text = app.ask(f"{base}?tab=compare&other=f:old_report.html").text
    assert "0 of 27 tensors have other formats" in text
    body, kind = boundary([("files", "no.html", b"<html></html>")])
    app.ask(f"{base}/upload?for=other", method="POST", body=body, headers={"Content-Type": kind})
    assert "is no report" in app.ask(f"{base}?tab=compare&other=f:no.html").text
    for wrong in ("f:../session.json", "q:zzz", "s:..", "x", "f:"):
        assert "is not there any more" in app.ask(f"{base}?tab=compare&other={wrong}").text


def test_files_can_be_taken_away(app: Running, example: Session, tmp_path: Path) -> None:
    base = f"/s/{example.name}"
    assert app.ask(f"{base}/network.bw").headers["content-disposition"] == 'attachment; filename="digits.bw"'
    app.ask(f"{base}/export", form={"to": "csv", "verify": "yes", "has-verify": "1"})
    app.wait(example)
    assert example.mark(Step.EXPORT) == "done"
    assert app.ask(f"{base}/export.zip").status == 200
    assert "Written: csv" in app.ask(f"{base}?step=export").text
    app.ask(f"{base}/export", form={"to": "../../x"})
    assert "no export format" in app.ask(base).text
    assert "top1" in app.ask(f"{base}/report.md").text
    path = tmp_path / "again.bw"
    found = example.quantized()
    assert found is not None
    found[0].save(path)
    opened = app.ask("/open", form={"path": str(path)})
    again = app.routes.sessions.get(opened.headers["location"].removeprefix("/s/"))
    assert again is not None
    app.wait(again)
    assert again.settings.target == "fpga"
    assert again.mark(Step.QUANTIZE) == "done"
    assert again.mark(Step.CALIBRATE) == "done", "its calibration came with it"
    made = again.quantized()
    assert made is not None
    assert program_sha256(made[0]) == program_sha256(Quantized.load(path))


def test_the_first_batch_is_shown(app: Running, example: Session) -> None:
    text = app.ask(f"/s/{example.name}/preview").text
    assert text.count("<img") == 8
    assert "data:image/png;base64," in text
    assert "1×16×16, float32, from 0 to 1" in text


def test_events_tell_of_jobs(app: Running, example: Session) -> None:
    with socket.create_connection((HOST, app.port), timeout=20) as line:
        request = f"GET /s/{example.name}/events HTTP/1.1\r\nHost: {HOST}:{app.port}\r\nCookie: {app.cookie}\r\n\r\n"
        line.sendall(request.encode())
        seen = b""
        while b"event: hello" not in seen:
            seen += line.recv(65536)
        app.ask(f"/s/{example.name}/run/quantize", form={})
        while b'"event": "done"' not in seen:
            seen += line.recv(65536)
    rows = [json.loads(text) for text in re.findall(r"data: (\{.*\})", seen.decode())]
    assert rows[1]["event"] == "waiting"
    assert all(r["session"] == example.name for r in rows[1:])


def test_ports_and_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_folder() == tmp_path / "bitwright" / "sessions"
    with listening(0) as one:
        one.listen()
        with pytest.raises(InputMismatch, match="taken"):
            listening(one.getsockname()[1])
    with listening(None) as two:
        assert two.getsockname()[0] == "127.0.0.1"


def test_a_folder_of_dropped_images(app: Running, tmp_path: Path) -> None:
    from PIL import Image

    session = app.routes.opener.example()
    app.wait(session)
    parts = []
    for k in range(3):
        Image.fromarray(np.full((16, 16), 80 * k, np.uint8)).save(tmp_path / f"{k}.png")
        parts.append(("files", f"im age {k}.png", (tmp_path / f"{k}.png").read_bytes()))
    body, kind = boundary(parts)
    app.ask(f"/s/{session.name}/upload?for=data", method="POST", body=body, headers={"Content-Type": kind})
    assert len(list(Path(session.settings.data).iterdir())) == 3
    app.ask(f"/s/{session.name}/run/calibrate", form={})
    app.wait(session)
    calibration = session.calibration()
    assert calibration is not None
    assert calibration.statistics.samples == 3
    app.ask(f"/s/{session.name}/upload?for=elsewhere", method="POST", body=body, headers={"Content-Type": kind})
    assert "not for" in session.flash
