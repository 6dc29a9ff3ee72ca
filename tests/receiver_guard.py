"""A certificate authority, and what guards an address that takes spans and logs: made anew, as an administrator would."""

from __future__ import annotations

from pathlib import Path

import msgspec
import trustme

from otel_control_gym.engine.cluster_access import ReceiverFiles

TOKEN = "4f2c-a.token/of+36~signs="


class MadeGuard(msgspec.Struct, frozen=True):
    """Files of a receiver, and what its senders need."""

    files: ReceiverFiles
    authority: Path  #: PEM, whom senders trust

    @property
    def options(self) -> tuple[str, ...]:
        """The options of `ocg run`."""
        told = {"certificate": self.files.certificate, "key": self.files.key, "token-file": self.files.token}
        return tuple(word for name, file in told.items() for word in (f"--receive-{name}", str(file)))


def made_guard(folder: Path, *names: str) -> MadeGuard:
    """Write a certificate for `names` (default: this machine), its key and a token into a folder."""
    authority = trustme.CA()
    issued = authority.issue_cert(*(names or ("127.0.0.1", "localhost")))
    files = ReceiverFiles(certificate=folder / "tls.crt", key=folder / "tls.key", token=folder / "token")
    files.certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    files.key.write_bytes(issued.private_key_pem.bytes())
    files.token.write_text(f"{TOKEN}\n")
    authority.cert_pem.write_to_path(folder / "ca.crt")
    return MadeGuard(files, folder / "ca.crt")
