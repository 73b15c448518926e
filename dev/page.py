"""A page where every route can be read and tried: Swagger UI with openapi.yaml, all in one file."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources

import yaml
from processes import ROOT


@contextlib.contextmanager
def serving_page(port: int, api: str) -> Iterator[str]:
    """The page's URL. Its calls go to `api`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/":
                self.send_error(404)
                return
            body = page(api).encode()
            self.send_response(200)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://localhost:{port}/"
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
