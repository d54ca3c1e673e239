"""An HTTPS server that takes POSTs and answers as it is told: the other side of a webhook.

Arguments: certificate, key, port (0: any). Says in JSON lines on stdout: its port, each POST, each answer that it was
told. On stdin a line is one answer: a status, and what `Retry-After` then says. Without one it answers 200.
"""
import collections
import http.server
import json
import ssl
import sys
import threading

answers = collections.deque()
lock = threading.Lock()


def say(**what):
    with lock:
        print(json.dumps(what), flush=True)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = (answers.popleft() if answers else "200").split()
        say(path=self.path, port=self.client_address[1], answered=int(answer[0]), body=body.decode(),
            headers={name.lower(): value for name, value in self.headers.items()})
        self.send_response(int(answer[0]))
        for after in answer[1:]:
            self.send_header("Retry-After", after)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[3])), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
threading.Thread(target=server.serve_forever, daemon=True).start()
say(listening=server.server_address[1])
for line in sys.stdin:
    answers.append(line.strip())
    say(told=line.strip())
