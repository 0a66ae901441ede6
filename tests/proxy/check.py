"""Runs the proxies of docs/deploying.md before a real Quittance and a stand-in for a payment backend. See `run`."""

import contextlib
import http.client
import http.server
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

NGINX, CADDY, QUITTANCE = (str(Path(path).resolve()) for path in sys.argv[1:4])
DOCS = Path("docs/deploying.md").read_text()
EXCHANGE = "F80MFRG8HVH6R9CQ47KRFQSJP3T6DBJ4K1D9B703RJY3Z39TBMJ0"
SPOOFED = {"Host": "evil.example", "X-Forwarded-For": "203.0.113.7", "X-Forwarded-Host": "evil.example"}


def blocks(language):
    """The examples in this language: whole backend, then beside one."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", DOCS, re.M | re.S)
    assert len(found) == 2, (language, len(found))
    return found


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Backend(http.server.BaseHTTPRequestHandler):
    """Says that it was reached, and with which headers."""

    def answer(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        names = ("Host", "X-Forwarded-For")
        body = json.dumps({"backend": {name: self.headers.get(name) for name in names}}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


def replaced(text, changes):
    """The example with what a test must have otherwise; each of it must be there."""
    for old, new in changes:
        assert old in text, f"{old!r} is not in the example"
        text = text.replace(old, new)
    return text


@contextlib.contextmanager
def running(command, port=None):
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        if port is None:
            yield process
            return
        for _ in range(400):
            if process.poll() is not None:
                raise SystemExit(f"{command[0]} ended: {process.stderr.read()}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        else:
            raise SystemExit(f"{command[0]} does not listen")
        yield process
    finally:
        process.terminate()
        process.wait(60)


def nginx(folder, text, port, ports, shop):
    changes = [
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("/etc/ssl/shop.pem", str(folder / "shop.pem")),
        ("/etc/ssl/shop.key", str(folder / "shop.key")),
        ("10.0.0.0/8", shop),
        *((f"127.0.0.1:{old}", f"127.0.0.1:{new}") for old, new in ports),
    ]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=shop.example",
         "-keyout", folder / "shop.key", "-out", folder / "shop.pem"], check=True, capture_output=True)
    paths = "".join(f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    whole = (f"daemon off; pid {folder}/pid; error_log stderr warn; events {{}}\n"
             f"http {{ access_log off;\n{paths}{replaced(text, changes)} }}\n")
    (folder / "nginx.conf").write_text(whole)
    command = [NGINX, "-c", str(folder / "nginx.conf"), "-p", str(folder), "-e", "stderr"]
    subprocess.run([*command, "-t", "-q"], check=True)
    return running(command, port)


def caddy(folder, text, port, ports, shop):
    changes = [
        ("shop.example {", f"http://:{port} {{\n\tbind 127.0.0.1"),
        ("10.0.0.0/8", shop),
        *((f"127.0.0.1:{old}", f"127.0.0.1:{new}") for old, new in ports),
    ]
    (folder / "Caddyfile").write_text(f"{{\n\tadmin off\n\tlog {{\n\t\tlevel ERROR\n\t}}\n}}\n{replaced(text, changes)}")
    os.environ["XDG_DATA_HOME"] = os.environ["XDG_CONFIG_HOME"] = str(folder)
    return running([CADDY, "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")], port)


class Client:
    def __init__(self, port, tls, token):
        self.port, self.tls, self.token = port, tls, token

    def ask(self, method, path, body=None, headers=None, shop=False):
        import ssl
        if self.tls:
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=ssl._create_unverified_context(), timeout=30)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = dict(headers or {"Host": "shop.example"})
        if shop:
            headers["Authorization"] = f"Bearer {self.token}"
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        reply = connection.getresponse()
        text = reply.read()
        connection.close()
        try:
            return reply.status, json.loads(text)
        except ValueError:
            return reply.status, text.decode(errors="replace")


def same(what, got, expected):
    if got != expected:
        raise SystemExit(f"{what}: {got!r} is not {expected!r}")


def terms(order, merchant_pub):
    now = int(time.time())
    return {
        "order_id": order, "amount": "KUDOS:1", "summary": "boots", "timestamp": {"t_s": now},
        "pay_deadline": {"t_s": now + 600}, "refund_deadline": {"t_s": now + 600},
        "wire_transfer_deadline": {"t_s": now + 900}, "merchant_pub": merchant_pub,
        "merchant_base_url": "https://shop.example/", "products": [],
        "exchanges": [{"url": "https://exchange.example/", "master_pub": EXCHANGE}],
    }


def code(reply):
    status, body = reply
    return status, body.get("code") if isinstance(body, dict) else body


def beside(name, client, merchant_pub, stranger):
    """What goes to Quittance goes there, and all else to the backend."""
    order = f"beside-{name}"
    made = client.ask("POST", "/private/ledger/orders", {"contract_terms": terms(order, merchant_pub)}, shop=True)
    same("the intake", made[0], 200)
    hash = made[1]["h_contract"]
    status = client.ask("GET", f"/orders/{order}?h_contract={hash}", headers=SPOOFED)
    same("status", status[0], 402)
    uri = status[1]["taler_pay_uri"]
    assert uri.startswith(f"taler://pay/shop.example/{order}/"), uri
    same("refund", client.ask("POST", f"/orders/{order}/refund", {"h_contract": hash})[0], 204)
    same("abort", code(client.ask("POST", "/instances/default/orders/none/abort", {
        "h_contract": hash, "coins": [{"coin_pub": EXCHANGE, "contribution": "KUDOS:1", "exchange_url": "https://exchange.example/"}]})),
        (404, 2253))
    same("approval", code(client.ask("POST", f"/private/orders/{order}/refund", {"refund": "KUDOS:1", "reason": ""}, shop=True)),
         (409, 2531))
    same("checkpoint", client.ask("GET", "/ledger/checkpoint")[0], 200)
    for method, path in [("GET", f"/orders/{order}"), ("POST", f"/orders/{order}/pay"), ("POST", "/private/orders"),
                         ("GET", "/config"), ("GET", "/instances/default/config"), ("POST", "/private/token")]:
        reply = client.ask(method, path, {} if method == "POST" else None, SPOOFED)
        assert reply[0] == 200 and "backend" in reply[1], (path, reply)
        # The last address is the one that connected, whatever the client had said before.
        assert reply[1]["backend"]["X-Forwarded-For"].split(",")[-1].strip() == "127.0.0.1", reply
    for path in ["/private/ledger/orders", f"/private/orders/{order}/refund", "//private/ledger/orders",
                 "/instances/default/private/ledger/orders", "/x/../private/ledger/orders", "/%70rivate/ledger/orders"]:
        same(f"a stranger at {path}", stranger.ask("POST", path, {}, shop=True)[0], 403)
    same("a stranger's refund", stranger.ask("POST", f"/orders/{order}/refund", {"h_contract": hash})[0], 204)


def whole(name, client, merchant_pub, stranger):
    """All goes to Quittance, and what is the shop's only from there."""
    config = client.ask("GET", "/config", headers=SPOOFED)
    same("config", (config[0], config[1]["name"]), (200, "taler-merchant"))
    same("health", client.ask("GET", "/health"), (200, {"status": "ok"}))
    same("an unknown order", code(client.ask("GET", "/instances/default/orders/none?h_contract=" + "0" * 103)), (404, 2005))
    order = f"whole-{name}"
    made = client.ask("POST", "/private/ledger/orders", {"contract_terms": terms(order, merchant_pub)}, shop=True)
    same("the intake", made[0], 200)
    status = client.ask("GET", f"/orders/{order}?h_contract={made[1]['h_contract']}", headers=SPOOFED)
    assert status[0] == 402 and status[1]["taler_pay_uri"].startswith("taler://pay/shop.example/"), status
    made = client.ask("POST", "/private/orders", {"order": {"amount": "KUDOS:1", "summary": "boots",
                      "fulfillment_url": "https://shop.example/thanks"}}, shop=True)
    same("an order", made[0], 200)
    sold = made[1]["order_id"]
    asked = client.ask("GET", f"/private/orders/{sold}", headers=SPOOFED, shop=True)
    assert asked[1]["taler_pay_uri"].startswith(f"taler://pay/shop.example/{sold}/"), asked
    claimed = client.ask("POST", f"/orders/{sold}/claim", {"nonce": EXCHANGE, "token": made[1]["token"]}, SPOOFED)
    same("the contract's address", claimed[1]["contract_terms"]["merchant_base_url"], "https://shop.example/")
    same("without a token", code(client.ask("GET", "/private/tokens")), (401, 40))
    # `private` itself is an endpoint, too: DELETE closes the instance.
    same("the instance", client.ask("GET", "/private", shop=True)[0], 200)
    for path in ["/private/tokens", "/instances/default/private/tokens", "//private/tokens", "/x/../private/tokens",
                 "/%70rivate/tokens", "/private", "/private?x=y", "/instances/default/private", "//private", "/x/../private",
                 "/%70rivate", "/management/instances"]:
        same(f"a stranger at {path}", stranger.ask("GET", path, shop=True)[0], 403)


def main():
    backend = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    threading.Thread(target=backend.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as home:
        home = Path(home)
        ini = re.search(r"^```ini\n(.*?)^```$", DOCS, re.M | re.S).group(1)
        quittance_port = free_port()
        ini = replaced(ini, [("PORT = 9966", f"PORT = {quittance_port}"), ("/srv/quittance-anchor/", "anchor/")])
        (home / "quittance.conf").write_text(ini)
        (home / "merchant.key").write_bytes(bytes([7]) * 32)
        os.chmod(home / "merchant.key", 0o600)
        config = ["-c", str(home / "quittance.conf")]

        def say(*arguments):
            done = subprocess.run([QUITTANCE, *arguments, *config], check=True, capture_output=True, text=True)
            return done.stdout.strip()

        say("init")
        token = say("instance", "add", "--id", "default", "--merchant-key", str(home / "merchant.key"))
        payto = re.search(r"^quittance account add .* --payto '(.*)'$", DOCS, re.M).group(1)
        say("account", "add", "--payto", payto)
        merchant_pub = MERCHANT_PUB
        ports = [("9966", quittance_port), ("9967", backend.server_address[1])]
        with running([QUITTANCE, "serve", *config], quittance_port):
            for name, start, language in [("nginx", nginx, "nginx"), ("Caddy", caddy, "caddy")]:
                for text, check, used in zip(blocks(language), (whole, beside), (ports[:1], ports)):
                    clients = []
                    with contextlib.ExitStack() as stack:
                        # As the shop's own network, and as anybody.
                        for shop in ("127.0.0.0/8", "10.0.0.0/8"):
                            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                            os.chmod(folder, 0o711)
                            port = free_port()
                            stack.enter_context(start(folder, text, port, used, shop))
                            clients.append(Client(port, name == "nginx", token))
                        check(name, clients[0], merchant_pub, clients[1])
                    print(f"{name}, {check.__name__}: as the page says")


# Of the key of 32 bytes 7.
MERCHANT_PUB = "X956RRZ2KH90NFQNA1XH6BP5Z6AMEXNEQTZ7Q4J23VN6J526T8P0"

main()
