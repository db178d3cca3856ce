"""`TlsEnds`: the proxy's own ends of TLS, towards the client and towards the server, for hosts that get a secret.

The client trusts an authority that is made for the session and whose key stays in this process's memory. The server is
verified as ever, against what this machine trusts.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from agentd.errors import ConfigError

from agentd_executor_native.network.secrets import HostSecrets
from agentd_executor_native.network.streams import BLOCK_BYTES, SocketStream

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, KeyUsage

__all__ = ["SessionAuthority", "TlsEnds", "TlsStream", "trusted_by_machine"]

Returned = TypeVar("Returned")

LIFETIME = datetime.timedelta(days=397)  # the longest that browsers accept of a server's certificate
MAX_CONTEXTS = 100
PROTOCOL = "http/1.1"


class TlsStream(SocketStream):
    """TLS on top of a stream. Reading and writing may go on at the same time."""

    def __init__(self, inner: SocketStream, context: ssl.SSLContext, *, server_name: str | None) -> None:
        """Be the client of `server_name`, or the server if there is none."""
        super().__init__(inner.socket)
        self.clock = inner.clock
        self._inner = inner
        self._sending = asyncio.Lock()  # what both directions have to say must not get mixed up
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._received, self._to_send, server_side=server_name is None, server_hostname=server_name
        )

    async def handshake(self) -> None:
        """Agree on keys. :raises ssl.SSLError: if the other side is not who it should be, or trusts us not."""
        await self._do(self._tls.do_handshake)

    async def fill_some(self) -> bool:
        """As in `SocketStream`. :raises ssl.SSLError: if the other side ends without saying so."""
        data = await self._do(partial(self._tls.read, BLOCK_BYTES))
        self.buffered += data
        return bool(data)

    async def write(self, data: bytes | memoryview) -> None:
        """As in `SocketStream`."""
        await self._do(lambda: self._tls.write(data) if data else 0)

    def end_writing(self) -> None:
        """Tell the other side that nothing more comes."""
        try:
            self._tls.unwrap()
        except ssl.SSLError:  # it waits for the other side's word, which does not matter
            pass
        try:
            self.socket.send(self._to_send.read())
        except OSError:  # ended already, or full: then it ends without the word
            pass
        super().end_writing()

    async def _do(self, operation: Callable[[], Returned]) -> Returned:
        while True:
            try:
                result = operation()
            except ssl.SSLWantReadError:
                await self._send()
                data = await self._inner.read()
                self._received.write(data) if data else self._received.write_eof()
            except ssl.SSLError:
                await self._send()  # the alert that says why
                raise
            else:
                await self._send()
                return result

    async def _send(self) -> None:
        async with self._sending:
            if data := self._to_send.read():
                await self._inner.write(data)


class SessionAuthority:
    """An authority for the hosts of one session's secrets; nothing outside of its sandbox trusts it.

    :raises ConfigError: if the package that makes certificates is not installed.
    """

    def __init__(self) -> None:
        try:
            from cryptography.hazmat.primitives.asymmetric import ec
        except ImportError:
            raise ConfigError(
                "secrets: need a package that makes certificates: pip install cryptography"
            ) from None
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._server_key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._signed("agentd, for this sandbox alone", self._key, is_authority=True)
        self._contexts: dict[str, ssl.SSLContext] = {}

    @property
    def pem(self) -> str:
        """The authority's certificate."""
        return _pem(self._certificate)

    def context_for(self, host: str) -> ssl.SSLContext:
        """Return the server's side of TLS for a host."""
        if host not in self._contexts:
            if len(self._contexts) >= MAX_CONTEXTS:  # code has asked for a hundred names below `*.`
                self._contexts.clear()
            self._contexts[host] = self._made_for(host)
        return self._contexts[host]

    def _made_for(self, host: str) -> ssl.SSLContext:
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        key = self._server_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols([PROTOCOL])
        descriptor = os.memfd_create("agentd")  # only files can be loaded, and the key must not be in one
        try:
            os.write(descriptor, key + _pem(self._signed(host, self._server_key)).encode())
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
        return context

    def _signed(self, name: str, key: EllipticCurvePrivateKey, *, is_authority: bool = False) -> Certificate:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

        own = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "agentd")])
        issued = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
        now = datetime.datetime.now(datetime.UTC)
        public, signer = key.public_key(), self._key.public_key()
        builder = (
            x509.CertificateBuilder(own, own if is_authority else issued, public, x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + LIFETIME - datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
            .add_extension(_usage(is_authority), critical=True)
        )
        if not is_authority:
            names = x509.SubjectAlternativeName([x509.DNSName(name)])
            server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
            builder = builder.add_extension(names, critical=False).add_extension(server, critical=False)
        return builder.sign(self._key, hashes.SHA256())


class TlsEnds:
    """Both ends of TLS for the hosts that get a secret.

    :param to_servers: how servers are verified.
    """

    def __init__(self, secrets: HostSecrets, to_servers: ssl.SSLContext) -> None:
        self.secrets = secrets
        self.authority = SessionAuthority()
        self._to_servers = to_servers
        to_servers.set_alpn_protocols([PROTOCOL])

    async def towards_client(self, client: SocketStream, host: str) -> TlsStream:
        """Return what the client says to a host, decrypted. :raises ssl.SSLError: if it does not trust us."""
        stream = TlsStream(client, self.authority.context_for(host), server_name=None)
        await stream.handshake()
        return stream

    async def towards_server(self, server: SocketStream, host: str) -> TlsStream:
        """Return a connection to a host. :raises ssl.SSLError: if it is not that host."""
        stream = TlsStream(server, self._to_servers, server_name=host)
        await stream.handshake()
        return stream


def trusted_by_machine() -> str:
    """Return the certificates of the authorities that this machine trusts."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile is not None and Path(paths.cafile).is_file():
        return Path(paths.cafile).read_text(errors="replace")
    found = ssl.create_default_context().get_ca_certs(binary_form=True)
    return "".join(ssl.DER_cert_to_PEM_cert(one) for one in found)


def _usage(is_authority: bool) -> KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        **dict.fromkeys(
            (
                *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
                *("crl_sign", "encipher_only", "decipher_only"),
            ),
            False,
        ),
    )


def _pem(certificate: Certificate) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM).decode()
