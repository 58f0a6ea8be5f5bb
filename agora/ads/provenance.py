"""Content credentials in pictures (C2PA). Goes in: PNG, JPEG or SVG bytes. Comes out: the same picture with a signed manifest, verified.

    signed = sign(png, "image/png", signer=own_signer(Path("signing")), source_type="composite")
    verify(signed, "image/png").is_valid

The manifest says `c2pa.created` with the IPTC digital source type (C2PA specification 2.1, 18.15): how the picture was made, as far as it
is known. Of a picture of the studio it is known (`studio_source_type`); of any other its maker has to say it. By default the certificate
is made here, by nobody whom a verifier knows: a picture then verifies as intact and its issuer as untrusted, and this is said. A
certificate of a known issuer is used instead where it is given.

Not covered: the manifest can be stripped, and a platform may do so. It says what the signer claims; it does not prove that.
"""

from __future__ import annotations

import difflib
import io
import json
import os
import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final, Literal, get_args

from agora import __version__
from agora.ads.manifest_bytes import deviation
from agora.errors import DataError, MissingExtraError, ModelError, UsageError
from agora.files import write_atomically

SOURCE_TYPES: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/"
SourceType = Literal[
    "digitalCapture", "computationalCapture", "negativeFilm", "positiveFilm", "print", "humanEdits", "algorithmicallyEnhanced",
    "digitalCreation", "dataDrivenMedia", "trainedAlgorithmicMedia", "algorithmicMedia", "screenCapture", "virtualRecording", "composite",
    "compositeCapture", "compositeSynthetic", "compositeWithTrainedAlgorithmicMedia",
]  # fmt: skip
"""The terms of http://cv.iptc.org/newscodes/digitalsourcetype/ (release of 2024-10-23) that are not retired."""
TERMS: Final[tuple[SourceType, ...]] = get_args(SourceType)
GENERATOR: Final = "Agora"
TYPES: Final = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".svg": "image/svg+xml"}
CERTIFICATE_FILE, KEY_FILE = "certificate_chain.pem", "private_key.pem"
_UNTRUSTED: Final = "signingCredential.untrusted"
_VALID_DAYS: Final = 825  # CA/Browser Forum ballot 193: the most that was allowed for a public certificate, and enough for a campaign


@dataclass(frozen=True, slots=True)
class Signer:
    """Certificate chain (own first) and private key, both PEM. `self_made`: by `own_signer`, so no verifier knows the issuer."""

    certificates: bytes
    private_key: bytes
    algorithm: str
    self_made: bool

    def __repr__(self) -> str:
        return f"Signer(algorithm={self.algorithm!r}, self_made={self.self_made})"  # never the key


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """What a picture's credentials say. `is_valid`: intact and signed; `is_trusted`: by an issuer on the verifier's list as well."""

    is_valid: bool
    is_trusted: bool
    issuer: str
    source_type: str
    generator: str
    problems: tuple[str, ...]

    @property
    def in_words(self) -> str:
        """One sentence for people."""
        if not self.is_valid:
            return "not valid: " + "; ".join(self.problems)
        trust = f"issuer {self.issuer!r}" if self.is_trusted else f"untrusted issuer {self.issuer!r}: anybody can make such a certificate"
        return f"intact and signed; {trust}; declared as {self.source_type or 'nothing about how it was made'}"


def own_signer(folder: Path) -> Signer:
    """The signer kept in `folder`; made there at the first call (the key readable by its owner only), and anew when it has expired."""
    certificates, key = folder / CERTIFICATE_FILE, folder / KEY_FILE
    if not certificates.exists() or not key.exists() or _has_expired(certificates.read_bytes()):
        folder.mkdir(parents=True, exist_ok=True)
        chain, private = _self_made()
        _write_private(key, private)
        write_atomically(certificates, chain)
    return Signer(certificates.read_bytes(), key.read_bytes(), "es256", True)


def signer_from_files(certificates: Path, private_key: Path, *, algorithm: str = "es256") -> Signer:
    """A signer from PEM files of one's own. Raises UsageError naming the file that is missing or no PEM."""
    for path in (certificates, private_key):
        if not path.exists():
            raise UsageError(f"{path} does not exist; give PEM files of the certificate chain and of its private key")
        if b"-----BEGIN" not in path.read_bytes():
            raise UsageError(f"{path} is no PEM file (no line BEGIN)")
    algorithms = [name.lower() for name in _c2pa().C2paSigningAlg.__members__]
    if algorithm.lower() not in algorithms:
        raise UsageError(f"algorithm {algorithm!r} is not one of {', '.join(algorithms)}")
    return Signer(certificates.read_bytes(), private_key.read_bytes(), algorithm.lower(), False)


def sign(
    data: bytes, media_type: str, *, signer: Signer, source_type: SourceType, title: str = "", agent: str = "Agora ads studio"
) -> bytes:  # fmt: skip
    """`data` with credentials that say how it was made, verified before it is returned.

    Raises DataError for a picture that cannot be signed, ModelError where verification after signing fails."""
    c2pa = _c2pa()
    action = {
        "action": "c2pa.created", "digitalSourceType": SOURCE_TYPES + source_type,
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"), "softwareAgent": {"name": agent, "version": __version__},
    }  # fmt: skip
    manifest = {
        "claim_generator_info": [{"name": GENERATOR, "version": __version__}], "title": title or "advertisement", "format": media_type,
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
    }  # fmt: skip
    out = io.BytesIO()
    try:
        with _settings(c2pa) as context:
            info = c2pa.C2paSignerInfo(
                alg=signer.algorithm.encode(), sign_cert=signer.certificates, private_key=signer.private_key, ta_url=None
            )
            builder = c2pa.Builder.from_json(json.dumps(manifest), context=context)
            builder.sign(c2pa.Signer.from_info(info), media_type, io.BytesIO(data), out)
    except c2pa.C2paError as error:
        raise DataError(f"a picture of type {media_type} ({len(data):,} bytes) cannot be signed: {error}") from None
    signed = out.getvalue()
    found = verify(signed, media_type)
    if not found.is_valid or not found.source_type == SOURCE_TYPES + source_type:
        raise ModelError(f"the signed picture does not verify: {found.in_words}")
    return signed


def verify(data: bytes, media_type: str) -> Verified:
    """What the credentials of a picture say; a picture without any is not valid, with that as its problem."""
    c2pa = _c2pa()
    try:
        with _settings(c2pa) as context:
            reader = c2pa.Reader(media_type, io.BytesIO(data), context=context)
            store, state = json.loads(reader.json()), reader.get_validation_state()
    except c2pa.C2paError as error:
        missing = "ManifestNotFound" in f"{type(error).__name__} {error}" or "no JUMBF" in str(error)
        problem = "it holds no content credentials" if missing else f"its credentials cannot be read ({error})"
        return Verified(is_valid=False, is_trusted=False, issuer="", source_type="", generator="", problems=(problem,))
    found = _verified(store, str(state))
    if found.is_valid and found.generator == GENERATOR and (changed := deviation(data, media_type)):
        return replace(found, is_valid=False, is_trusted=False, problems=(changed,))
    return found


def source_type_named(name: str) -> SourceType:
    """A term by its name or address. Raises UsageError with the nearest one."""
    plain = name.strip().removeprefix(SOURCE_TYPES)
    for term in TERMS:
        if term.casefold() == plain.casefold():
            return term
    close = difflib.get_close_matches(plain, TERMS, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"it is one of {', '.join(TERMS)}"
    raise UsageError(f"source type {name!r} is no term of the IPTC vocabulary; {hint}")


def studio_source_type(*, trained: bool) -> SourceType:
    """Of a picture of the studio: product, typeset words and a background drawn by rules; or, `trained`, parts by a trained model."""
    return "compositeWithTrainedAlgorithmicMedia" if trained else "composite"


def known_source_type(path: Path) -> SourceType:
    """How a picture was made, where the studio's own record of it lies beside it. Raises UsageError saying what to do for all others."""
    try:
        is_ours = {"layout", "checks"} <= json.loads(path.with_suffix(".json").read_text(encoding="utf-8")).keys()
        writer = str(json.loads((path.parent / "copy.json").read_text(encoding="utf-8"))["written_by"])
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        is_ours, writer = False, ""
    if not is_ours:
        raise UsageError(
            f"how {path} was made is not known; say it with --source-type: digitalCapture (a photograph), humanEdits (a photograph "
            "retouched by hand), digitalCreation (drawn by a person), trainedAlgorithmicMedia (made by a generative model), "
            f"compositeWithTrainedAlgorithmicMedia (partly so), or another of {SOURCE_TYPES}"
        )
    return studio_source_type(trained=writer != "grammar")


def verify_file(path: Path) -> Verified:
    """`verify` of a file, by its ending. Raises UsageError for other endings and files that do not exist."""
    if path.suffix.lower() not in TYPES:
        raise UsageError(f"{path}: ending {path.suffix!r} is none of {', '.join(TYPES)}")
    if not path.is_file():
        raise UsageError(f"{path} does not exist")
    return verify(path.read_bytes(), TYPES[path.suffix.lower()])


def sign_file(path: Path, signer: Signer, *, source_type: SourceType, out: Path | None = None) -> Verified:
    """Sign a file where it is, or into `out`."""
    if path.suffix.lower() not in TYPES:
        raise UsageError(f"{path}: ending {path.suffix!r} is none of {', '.join(TYPES)}")
    if not path.is_file():
        raise UsageError(f"{path} does not exist")
    media_type = TYPES[path.suffix.lower()]
    signed = sign(path.read_bytes(), media_type, signer=signer, source_type=source_type, title=path.name)
    write_atomically(out or path, signed)
    return verify(signed, media_type)


def _verified(store: dict[str, Any], state: str) -> Verified:
    active = store.get("manifests", {}).get(store.get("active_manifest", ""), {})
    results = store.get("validation_results", {}).get("activeManifest", {})
    failures = [f"{one.get('code', '')}: {one.get('explanation', '')}" for one in results.get("failure", [])]
    problems = tuple(one for one in failures if not one.startswith(_UNTRUSTED))
    actions = [
        action
        for assertion in active.get("assertions", [])
        if str(assertion.get("label", "")).startswith("c2pa.actions")
        for action in assertion.get("data", {}).get("actions", [])
    ]
    source = next((str(action["digitalSourceType"]) for action in actions if "digitalSourceType" in action), "")
    generators = active.get("claim_generator_info") or [{}]
    signature = active.get("signature_info") or {}
    is_valid = state in ("Valid", "Trusted") and not problems
    return Verified(
        is_valid=is_valid, is_trusted=state == "Trusted", issuer=str(signature.get("issuer") or signature.get("common_name") or "unknown"),
        source_type=source, generator=str(generators[0].get("name", "")),
        problems=problems if problems or is_valid else (f"state {state}",),
    )  # fmt: skip


def _settings(c2pa: Any) -> Any:
    """No thumbnail (it would multiply the size of an advertisement), nothing fetched from elsewhere."""
    return c2pa.Context.from_dict(
        {"builder": {"thumbnail": {"enabled": False}}, "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
    )


def _c2pa() -> Any:
    try:
        import c2pa
    except ImportError:
        raise MissingExtraError("c2pa-python", "ads", "content credentials") from None
    return c2pa


def _write_private(path: Path, data: bytes) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def _has_expired(chain: bytes) -> bool:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(chain)[0].not_valid_after_utc < datetime.now(timezone.utc) + timedelta(days=1)
    except ValueError:
        return True


def _self_made() -> tuple[bytes, bytes]:
    """A chain of two certificates, as C2PA 2.1 section 14.5.1 wants them (an issuer and an end entity for e-mail protection), and the
    key."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    issuer_key, own_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = _certificate("Agora self-made issuer", issuer_key, None, issuer_key)
    own = _certificate("Agora ads studio (self-made)", own_key, issuer, issuer_key)
    chain = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in (own, issuer))
    no_password = serialization.NoEncryption()
    return chain, own_key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, no_password)


def _certificate(name: str, key: Any, issuer: Any, issuer_key: Any) -> Any:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    is_issuer, now = issuer is None, datetime.now(timezone.utc)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Agora (self-made)")])
    usage = x509.KeyUsage(
        digital_signature=not is_issuer, key_cert_sign=is_issuer, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, crl_sign=is_issuer, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(issuer.subject if issuer else subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=_VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=is_issuer, path_length=0 if is_issuer else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )  # fmt: skip
    if not is_issuer:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def declares_generated(data: bytes) -> bool:
    """Whether a file names one of the two source types, without any verification (for lists of many files)."""
    return re.search(rb"digitalsourcetype/(compositeWithT|t)rainedAlgorithmicMedia", data) is not None
