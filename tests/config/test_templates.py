"""Pages from templates."""

from meanteacher.config.templates import render


def test_names_that_are_not_utf8_can_be_stored(tmp_path):
    (tmp_path / "page.html.j2").write_text("<p>{{ name }}</p>")
    name = b"gr\xfc\xc3\xbc<.png".decode("utf-8", "surrogateescape")
    assert render(tmp_path / "page.html.j2", name=name).encode() == "<p>gr?ü&lt;.png</p>".encode()
