"""Runs moto, a server that speaks Amazon S3's protocol, on a free port of 127.0.0.1."""

from urllib.parse import parse_qsl, quote

from moto.iam.access_control import IAMRequestBase
from moto.server import main

# moto compares signatures with a query that it has decoded, so that none with an encoded slash is right.
as_received = IAMRequestBase._create_aws_request


def encoded(self):
    path, _, query = self._path.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    if pairs:
        path += "?" + "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in pairs)
    self._path = path
    return as_received(self)


IAMRequestBase._create_aws_request = encoded
main(["-H", "127.0.0.1", "-p", "0"])
