"""Runs moto, a server that speaks Amazon S3's protocol, on a free port of 127.0.0.1."""

from urllib.parse import parse_qsl, quote

from flask import request
from moto.iam.access_control import IAMRequestBase
from moto.server import main

# moto computes signatures of a URL that it has decoded, so that none with an encoded letter is right.
of_decoded = IAMRequestBase._create_aws_request


def of_received(self):
    path, _, query = request.environ["RAW_URI"].partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    if pairs:
        path += "?" + "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in pairs)
    self._path = path
    return of_decoded(self)


IAMRequestBase._create_aws_request = of_received
main(["-H", "127.0.0.1", "-p", "0"])
