"""Greets every connection on the TCP ports given as arguments."""

import socket
import sys
import threading


def serve(port):
    with socket.create_server(("::", port), family=socket.AF_INET6) as server:
        while True:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"hello from port %d\n" % port)


for number in sys.argv[1:]:
    threading.Thread(target=serve, args=(int(number),)).start()
