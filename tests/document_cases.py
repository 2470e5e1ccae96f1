"""Small documents of every kind, written by hand for the tests of the readers."""

from __future__ import annotations

import io
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from luhuo.files.readers import read_records
from luhuo.files.records import Broken, Record

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def pdf(pages: Sequence[Sequence[str]], *, encrypt: bool = False) -> bytes:
    """A PDF with lines of text on each page, in a Chinese font that the file does not hold."""
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Count {len(pages)}/Kids[{' '.join(f'{6 + 2 * n} 0 R' for n in range(len(pages)))}]>>".encode(),
        b"<</Type/Font/Subtype/Type0/BaseFont/STSong-Light/Encoding/UniGB-UCS2-H/DescendantFonts[4 0 R]>>",
        b"<</Type/Font/Subtype/CIDFontType0/BaseFont/STSong-Light/CIDSystemInfo"
        b"<</Registry(Adobe)/Ordering(GB1)/Supplement 2>>/FontDescriptor 5 0 R/DW 1000/W[1[500]814 939 500]>>",
        b"<</Type/FontDescriptor/FontName/STSong-Light/Flags 4/FontBBox[0 -200 1000 900]/ItalicAngle 0"
        b"/Ascent 880/Descent -120/CapHeight 880/StemV 93>>",
    ]
    for number, lines in enumerate(pages):
        shown = "".join(
            f"1 0 0 1 40 {800 - 14 * i} Tm <{line.encode('utf-16-be').hex()}> Tj " for i, line in enumerate(lines)
        )
        content = zlib.compress(f"BT /F1 10 Tf {shown}ET".encode())
        objects.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Resources<</Font<</F1 3 0 R>>>>/Contents %d 0 R>>"
            % (7 + 2 * number)
        )
        objects.append(b"<</Length %d/Filter/FlateDecode>>stream\n%s\nendstream" % (len(content), content))
    out = bytearray(b"%PDF-1.4\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    lock = f"/Encrypt<</Filter/Standard/V 1/R 2/O<{'41' * 32}>/U<{'42' * 32}>/P -4>>/ID[<00><00>]" if encrypt else ""
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}".encode()
    out += f"trailer<</Size {len(objects) + 1}/Root 1 0 R{lock}>>\nstartxref\n{start}\n%%EOF\n".encode()
    return bytes(out)


def zipped(members: dict[str, bytes | str]) -> bytes:
    """A zip file."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, content in members.items():
            pack.writestr(name, content)
    return out.getvalue()


def tarred(members: dict[str, bytes], mode: str = "w", encoding: str = "utf-8") -> bytes:
    """A tar file, compressed as the mode says."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, encoding=encoding, format=tarfile.GNU_FORMAT) as pack:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            pack.addfile(info, io.BytesIO(content))
    return out.getvalue()


def paragraph(text: str, style: str = "", extra: str = "") -> str:
    """A paragraph of a Word document."""
    named = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{named}<w:r><w:t>{text}</w:t></w:r>{extra}</w:p>"


def docx(body: str, footnotes: str = "", head: str = "") -> bytes:
    """A Word document."""
    styles = f'<w:styles {W}><w:style w:styleId="2"><w:name w:val="heading 2"/></w:style></w:styles>'
    members: dict[str, bytes | str] = {
        "word/document.xml": f"{head}<w:document {W}><w:body>{body}</w:body></w:document>",
        "word/styles.xml": styles,
    }
    if footnotes:
        members["word/footnotes.xml"] = f"<w:footnotes {W}>{footnotes}</w:footnotes>"
    return zipped(members)


def epub(chapters: Sequence[str], locked: bool = False) -> bytes:
    """A book with a title."""
    container = (
        '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
    )
    items = "".join(
        f'<item id="c{n}" href="text/c%20{n}.xhtml" media-type="application/xhtml+xml"/>' for n in range(len(chapters))
    )
    order = "".join(f'<itemref idref="c{n}"/>' for n in reversed(range(len(chapters))))
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        "<dc:title>炉火 &amp; steel</dc:title><dc:language>zh</dc:language></metadata>"
        f'<manifest>{items}<item id="n" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>'
        f'</manifest><spine><itemref idref="n"/>{order}</spine></package>'
    )
    members: dict[str, bytes | str] = {"META-INF/container.xml": container, "OEBPS/book.opf": package}
    for n, chapter in enumerate(chapters):
        members[f"OEBPS/text/c {n}.xhtml"] = (
            '<?xml version="1.0"?><!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.1//EN" "xhtml11.dtd">'
            f"<html><body>{chapter}</body></html>"
        )
    if locked:
        members["META-INF/encryption.xml"] = (
            '<encryption><EncryptedData><CipherData><CipherReference URI="OEBPS/text/c%200.xhtml"/>'
            "</CipherData></EncryptedData></encryption>"
        )
    return zipped(members)


def warc_record(kind: str, content_type: str, payload: bytes, uri: str = "http://a.example/") -> bytes:
    """One record of a web archive."""
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {uri}\r\nWARC-Date: 2024-01-02T03:04:05Z\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    return head.encode() + payload + b"\r\n\r\n"


def response(body: bytes, headers: str = "Content-Type: text/html; charset=utf-8", status: str = "200 OK") -> bytes:
    """The record of a page as a server sent it."""
    http = f"HTTP/1.1 {status}\r\n{headers}\r\n\r\n".encode() + body
    return warc_record("response", "application/http; msgtype=response", http)


def put(folder: Path, name: str, data: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def records(path: Path, **options) -> list[Record]:
    return [r for r in read_records(path, **options) if isinstance(r, Record)]


def texts(path: Path, **options) -> list[str]:
    return [r.text for r in records(path, **options)]


def reasons(path: Path, **options) -> list[tuple[int, str]]:
    return [(r.line, r.reason) for r in read_records(path, **options) if isinstance(r, Broken)]


def web_page(text: str, encoding: str = "utf-8", meta: str = "") -> bytes:
    html = f"<html><head>{meta}</head><body><nav>menu</nav><main><p>{text}</p></main></body></html>"
    return html.encode(encoding)


def dump(*pages: str) -> str:
    site = "<siteinfo><sitename>W</sitename><base>https://zh.example.org/wiki/Main</base></siteinfo>"
    return f'<mediawiki xmlns="http://x/" xml:lang="zh">{site}{"".join(pages)}</mediawiki>'


def wiki_page(title: str, text: str, ns: int = 0, extra: str = "") -> str:
    return (
        f"<page><title>{title}</title><ns>{ns}</ns><id>7</id>{extra}<revision><id>9</id><timestamp>2024</timestamp>"
        f"<contributor><id>3</id></contributor><model>wikitext</model><text>{text}</text></revision></page>"
    )
