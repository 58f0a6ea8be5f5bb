"""Canonical URLs: links that lead to the same page become equal text. Goes in: links as posted. Comes out: canonical form.

Not covered: shorteners are not resolved (nothing is fetched), and pages that differ in a query key not listed here stay apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

TRACKING_KEYS: Final = frozenset(
    [
        "fbclid", "gclid", "gclsrc", "dclid", "msclkid", "yclid", "twclid", "ttclid", "igshid", "igsh", "mc_cid", "mc_eid", "ref_src",
        "ref_url", "_hsenc", "_hsmi", "vero_id", "wickedid", "oly_anon_id", "oly_enc_id", "rb_clickid",
        "s_cid", "mkt_tok", "ncid", "cmpid", "smid", "smtyp",
        "feature", "spm", "share_id", "si", "at_medium", "at_campaign", "xtor", "wt_mc",
    ]
)  # fmt: skip
"""Query keys that name the way to a page and not the page; `utm_*`, `ga_*` and `pk_*` are dropped as well."""
TRACKING_PREFIXES: Final = ("utm_", "ga_", "pk_", "hsa_")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_MIRROR_PREFIXES: Final = ("www.", "m.", "mobile.", "amp.")


def canonical_url(url: str) -> str:
    """Lower-case host without `www.`/mobile prefix, https, no default port, user, fragment or tracking keys, sorted query.

    Text that is no web address comes back stripped and otherwise unchanged.
    """
    text = url.strip()
    if "://" not in text:
        text = f"https://{text}" if text.lower().startswith("www.") else text
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return url.strip()
    if parts.scheme.lower() not in _DEFAULT_PORTS or not parts.hostname:
        return url.strip()
    host = _host(parts)
    if port is not None and port not in _DEFAULT_PORTS.values():
        host = f"{host}:{port}"
    query = sorted((key, value) for key, value in parse_qsl(parts.query, keep_blank_values=True) if not _is_tracking(key))
    path = quote(unquote(parts.path, errors="surrogateescape"), safe="/~!$&'()*+,;=:@-._%", errors="surrogateescape").rstrip("/")
    return urlunsplit(("https", host, path, urlencode(query, errors="surrogatepass"), ""))


def canonical_urls(urls: Iterable[str]) -> list[str]:
    """`canonical_url` of each; equal links are worked out once."""
    known: dict[str, str] = {}
    result = []
    for url in urls:
        if url not in known:
            known[url] = canonical_url(url)
        result.append(known[url])
    return result


def _host(parts: SplitResult) -> str:
    host = (parts.hostname or "").lower().rstrip(".")
    try:
        host = host.encode("idna").decode("ascii") if not host.isascii() else host
    except UnicodeError:
        return host
    for prefix in _MIRROR_PREFIXES:
        if host.startswith(prefix) and host.count(".") >= 2:
            return host.removeprefix(prefix)
    return host


def _is_tracking(key: str) -> bool:
    lower = key.lower()
    return lower in TRACKING_KEYS or lower.startswith(TRACKING_PREFIXES)
