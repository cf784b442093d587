"""A TCP proxy that can be switched off, to imitate a server that fails and comes back."""

import contextlib
import socket
import threading


class Proxy:
    """Forwards connections to a port on loopback while `up`; otherwise cuts them."""

    def __init__(self, port):
        #: Called with what is sent; where it returns True, the connection is cut behind it, before an answer arrives.
        self.cut_after = lambda _data: False
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.up = True
        self._flowing = threading.Event()
        self._flowing.set()
        self._swallows = False
        self._open = set()
        self._dead = set()  # connections whose data go nowhere, for good
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self):
        """Address of the proxy."""
        return f"http://127.0.0.1:{self.port}"

    def through(self, url):
        """Return the URL with the proxy's port in place of the server's."""
        return url.replace(f":{self._target}", f":{self.port}")

    def down(self):
        """Cut all connections, present and future."""
        self.up = False
        for sock in list(self._open):
            _cut(sock)

    def hold(self):
        """Keep connections open, and hold back everything sent on them."""
        self._flowing.clear()

    def release(self):
        """Send on the data that was held back."""
        self._flowing.set()

    def swallow(self):
        """Let data on all connections, present and future, go nowhere: TCP acknowledges it, and nobody answers.

        So do a firewall that forgot a connection, a dead proxy in front of a server, an address that moved.
        """
        self._swallows = True
        self._dead |= self._open

    def restore(self):
        """Serve new connections again. Those that were swallowed stay silent, and open."""
        self._swallows = False

    def close(self):
        """Cut all connections and stop."""
        self.release()
        self.down()
        self._listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                if self.up:
                    threading.Thread(target=self._forward, args=(client,), daemon=True).start()
                else:
                    _cut(client)

    def _forward(self, client):
        try:
            server = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            _cut(client)
            return
        pair = {client, server}
        self._open |= pair
        if self._swallows:
            self._dead |= pair
        back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
        back.start()
        self._pump(client, server)
        back.join()
        self._open -= pair
        for sock in pair:
            sock.close()

    def _pump(self, source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._flowing.wait()
                if source not in self._dead:
                    target.sendall(data)
                    if self.cut_after(data):
                        break
        if source not in self._dead:
            _cut(target)
        _cut(source)


def _cut(sock):
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        sock.close()
