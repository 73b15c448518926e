"""The pages of `make run`: one where every route can be read and tried, and the example of a shop."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources

import yaml
from processes import ROOT

SHOP = ROOT / "examples/shop"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}

# The text at a path, with its headers.
Content = tuple[str, dict[str, str]]


@contextlib.contextmanager
def serving_page(port: int, api: str) -> Iterator[str]:
    """Swagger UI with openapi.yaml, all in one file. Its calls go to `api`."""
    with serving(port, lambda path: (page(api), {"content-type": "text/html; charset=utf-8"}) if path == "/" else None):
        yield f"http://localhost:{port}/"


@contextlib.contextmanager
def serving_shop(port: int, api: str, timezone: str) -> Iterator[str]:
    """The example of a shop. Its calls go to `api`, and a browser lets it call nobody else."""
    policy = f"default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src {api}"
    policy += "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

    def content(path: str) -> Content | None:
        name = path.partition("?")[0].removeprefix("/") or "index.html"
        # Names and not paths, so nothing outside the folder is served.
        file = {file.name: file for file in SHOP.iterdir()}.get(name)
        if file is None:
            return None
        text = file.read_text(encoding="utf-8").replace('"http://localhost:9000"', json.dumps(api))
        text = text.replace('TIME_ZONE = "UTC"', f"TIME_ZONE = {json.dumps(timezone)}")
        return text, {"content-type": f"{TYPES[file.suffix]}; charset=utf-8", "content-security-policy": policy}

    with serving(port, content):
        yield f"http://localhost:{port}/"


@contextlib.contextmanager
def serving(port: int, content: Callable[[str], Content | None]) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = content(self.path)
            if found is None:
                self.send_error(404)
                return
            text, headers = found
            body = text.encode()
            self.send_response(200)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("cache-control", "no-store")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


def page(api: str) -> str:
    document = yaml.safe_load((ROOT / "openapi.yaml").read_text(encoding="utf-8"))
    document["servers"] = [{"url": api}]
    # A tag in a string would end the script.
    spec = json.dumps(document).replace("<", "\\u003c")
    swagger = resources.files("flask_swagger_ui") / "dist"
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{document["info"]["title"]}</title>
<link rel="icon" href="data:,">
<style>{(swagger / "swagger-ui.css").read_text(encoding="utf-8")}</style>
<main id="page"></main>
<script>{(swagger / "swagger-ui-bundle.js").read_text(encoding="utf-8")}</script>
<script>
SwaggerUIBundle({{ dom_id: "#page", spec: {spec}, tryItOutEnabled: true, validatorUrl: null }});
</script>
"""
