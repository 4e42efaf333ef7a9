"""A stand-in for Proxmox VE: its API over HTTPS, and behind it the test hosts of a bed."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
import urllib.parse
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from data_platform_core.errors import CrmError
from home_server.testbed.bed import GATEWAY, Bed
from home_server.testbed.proxmox_api import NODE, TOKEN_ID, USER, ProxmoxApi, Refused


class ProxmoxStandIn(ProxmoxApi):
    """One Proxmox node, served until it is closed."""

    def __init__(self, bed: Bed, folder: Path, address: str = GATEWAY, port: int = 8006) -> None:
        super().__init__(bed)
        self.address, self.port = address, port
        self.ca = folder / "pve-root-ca.pem"
        _certificates(folder, address)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "pve-ssl.pem", folder / "pve-ssl.key")
        self._server = ThreadingHTTPServer((address, port), type("Handler", (_Handler,), {"api": self}))
        # the handshake belongs to the connection's own thread: who connects and says nothing must not stop the rest
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def variables(self) -> dict[str, Any]:
        """What a playbook needs to find the stand-in and to make machines there that the bed can reach."""
        return {
            "proxmox_api_host": self.address,
            "proxmox_api_port": self.port,
            "proxmox_api_user": USER,
            "proxmox_api_token_id": TOKEN_ID,
            "proxmox_api_token_secret": self.token_secret,
            "proxmox_api_ca": str(self.ca),
            "proxmox_vm_node": NODE,
            "proxmox_vm_storage": "local-zfs",
            "proxmox_vm_ssh_keys": [self._bed.public_key],
        }

    def close(self) -> None:
        """Stop answering, and remove the test hosts that were made."""
        self._server.shutdown()
        self._server.server_close()
        self.remove_hosts()


class _Handler(BaseHTTPRequestHandler):
    """HTTP around `ProxmoxApi.answer`: an error's text stands in the status line, as with the real API."""

    api: ProxmoxApi
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        pairs = urllib.parse.parse_qsl(url.query, keep_blank_values=True)
        pairs += urllib.parse.parse_qsl(text, keep_blank_values=True)
        path = urllib.parse.unquote(url.path).removeprefix("/api2/json")
        body: dict[str, Any] = {"data": None}
        status, reason = 200, "OK"
        try:
            authorization = self.headers.get("Authorization", "")
            body["data"] = self.api.answer(self.command, path, dict(pairs), authorization)
        except Refused as refused:
            status, reason = refused.status, refused.message
            body |= {"message": refused.message} | ({"errors": refused.errors} if refused.errors else {})
        except (CrmError, KeyError) as error:
            status, reason = HTTPStatus.INTERNAL_SERVER_ERROR, str(error)
        words = json.dumps(body).encode()
        self.send_response(status, reason)
        self.send_header("Content-Type", "application/json;charset=UTF-8")
        self.send_header("Content-Length", str(len(words)))
        self.end_headers()
        self.wfile.write(words)

    do_GET = do_POST = do_PUT = do_DELETE = _answer

    def log_message(self, *_: object) -> None:
        """Say nothing of each request."""


def _certificates(folder: Path, address: str) -> None:
    """An authority and the API's certificate by it, as every Proxmox node has them."""
    folder.mkdir(parents=True, exist_ok=True)
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    authority = ["-subj", "/CN=Proxmox Virtual Environment", "-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    own = [
        "-subj",
        f"/CN={NODE}",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-addext",
        f"subjectAltName=IP:{address}",
    ]
    signed = ["-CA", "pve-root-ca.pem", "-CAkey", "pve-root-ca.key"]
    for words in (
        [*authority, "-keyout", "pve-root-ca.key", "-out", "pve-root-ca.pem"],
        [*own, *signed, "-keyout", "pve-ssl.key", "-out", "pve-ssl.pem"],
    ):
        done = subprocess.run(["openssl", "req", "-x509", *curve, *words], cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise CrmError(f"openssl cannot make the certificate of the Proxmox stand-in: {done.stderr.strip()}")
