"""The thumbnail example's handler, run as it is, with real images and an object store in memory."""

from __future__ import annotations

import importlib.util
import io
import os
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from urllib.parse import quote_plus

import pytest
from PIL import Image

SOURCE = Path(__file__).parents[3] / "examples/01-thumbnails/src/app.py"


@dataclass
class ObjectStore:
    """What the handler uses of an S3 client, on a dictionary."""

    objects: dict[tuple[str, str], bytes] = field(default_factory=dict)
    types: dict[tuple[str, str], str] = field(default_factory=dict)

    def get_object(self, Bucket: str, Key: str) -> dict[str, object]:  # noqa: N803 (boto3's names)
        content = self.objects[Bucket, Key]
        return {"ContentLength": len(content), "Body": io.BytesIO(content)}

    def put_object(self, Bucket: str, Key: str, Body: bytes, ContentType: str) -> None:  # noqa: N803
        self.objects[Bucket, Key] = Body
        self.types[Bucket, Key] = ContentType


@pytest.fixture
def store() -> ObjectStore:
    return ObjectStore()


@pytest.fixture
def app(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("THUMBNAILS_BUCKET", "thumbnails")
    spec = importlib.util.spec_from_file_location("thumbnails_app", SOURCE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.s3 = store
    return module


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    body = io.BytesIO()
    image.save(body, kind, **options)
    return body.getvalue()


@cache
def photo(width: int = 720, height: int = 480) -> Image.Image:
    return Image.effect_noise((width, height), 60).convert("RGB")


def black(width: int, bits: int) -> bytes:
    """A black PNG, as high as wide, written by hand: Pillow would need the memory that the bomb is to blow."""
    parts = [
        (b"IHDR", struct.pack(">2I5B", width, width, bits, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(width * (1 + width * bits // 8)))),
        (b"IEND", b""),
    ]
    chunks = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def arrived(store: ObjectStore, content: bytes, key: str = "photo.jpg") -> dict[str, object]:
    """The event of an object that has just been put."""
    store.objects["photos", key] = content
    return {"Records": [{"s3": {"bucket": {"name": "photos"}, "object": {"key": quote_plus(key)}}}]}


def thumbnail(store: ObjectStore, key: str) -> Image.Image:
    return Image.open(io.BytesIO(store.objects["thumbnails", key]))


def test_a_photo_becomes_three_thumbnails_that_fit_their_sizes(app: ModuleType, store: ObjectStore) -> None:
    result = app.handler(arrived(store, encoded(photo(), "JPEG")), None)
    assert result == {"thumbnails": ["photo.jpg/web.jpg", "photo.jpg/tablet.jpg", "photo.jpg/mobile.jpg"]}
    sizes = [thumbnail(store, key).size for key in result["thumbnails"]]
    assert sizes == [(480, 320), (320, 213), (160, 107)]
    assert {store.types["thumbnails", key] for key in result["thumbnails"]} == {"image/jpeg"}


def test_the_same_event_again_writes_the_same_bytes_to_the_same_keys(app: ModuleType, store: ObjectStore) -> None:
    event = arrived(store, encoded(photo(), "JPEG"))
    app.handler(event, None)
    before = dict(store.objects)
    app.handler(event, None)
    assert store.objects == before


def test_a_small_photo_is_never_enlarged(app: ModuleType, store: ObjectStore) -> None:
    app.handler(arrived(store, encoded(photo(100, 50), "PNG")), None)
    assert {thumbnail(store, f"photo.jpg/{size}.jpg").size for size in app.SIZES} == {(100, 50)}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_photo_that_was_taken_with_the_camera_turned_stands_upright(
    app: ModuleType, store: ObjectStore, kind: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    app.handler(arrived(store, encoded(photo(), kind, exif=exif.tobytes())), None)
    upright = thumbnail(store, "photo.jpg/web.jpg")
    assert upright.size == (320, 480)
    assert 0x0112 not in upright.getexif()


@pytest.mark.parametrize(
    ("mode", "value"), [("1", 1), ("L", 200), ("P", 0), ("LA", (200, 255)), ("RGBA", (9, 9, 9, 0)), ("I;16", 51_200)]
)
def test_every_way_of_storing_colours_becomes_a_plain_jpeg(
    app: ModuleType, store: ObjectStore, mode: str, value: object
) -> None:
    app.handler(arrived(store, encoded(Image.new(mode, (640, 480), value), "PNG")), None)
    assert thumbnail(store, "photo.jpg/web.jpg").mode == "RGB"


def test_what_was_transparent_becomes_white(app: ModuleType, store: ObjectStore) -> None:
    app.handler(arrived(store, encoded(Image.new("RGBA", (600, 600), (0, 0, 0, 0)), "PNG")), None)
    assert thumbnail(store, "photo.jpg/web.jpg").getpixel((10, 10)) == (255, 255, 255)


def test_sixteen_bits_of_grey_keep_their_shade(app: ModuleType, store: ObjectStore) -> None:
    app.handler(arrived(store, encoded(Image.new("I;16", (600, 600), 32_768), "PNG")), None)
    assert thumbnail(store, "photo.jpg/web.jpg").getpixel((10, 10)) == (128, 128, 128)


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(lambda: b"", id="nothing at all"),
        pytest.param(lambda: b"hello", id="a text that is called a photo"),
        pytest.param(lambda: encoded(Image.new("RGB", (9, 9)), "GIF"), id="a GIF, which is not taken"),
        pytest.param(lambda: encoded(photo(), "JPEG")[:20_000], id="a JPEG that was cut off"),
        pytest.param(lambda: encoded(photo(), "PNG")[:200], id="a PNG that was cut off"),
        pytest.param(lambda: encoded(photo(), "WEBP")[:5_000], id="a WebP that was cut off"),
        pytest.param(lambda: black(7_000, 8), id="a bomb of 49 megapixels in 50 KB"),
        pytest.param(lambda: black(20_000, 1), id="a bomb of 400 megapixels in 50 KB"),
    ],
)
def test_what_is_no_photo_raises_a_clear_error_and_writes_nothing(
    app: ModuleType, store: ObjectStore, made: Callable[[], bytes]
) -> None:
    with pytest.raises(app.NotAPhoto, match=r"s3://photos/photo\.jpg"):
        app.handler(arrived(store, made()), None)
    assert list(store.objects) == [("photos", "photo.jpg")]


def test_a_file_that_is_too_large_is_refused_before_it_is_read(app: ModuleType, store: ObjectStore) -> None:
    app.MAX_FILE_BYTES = 1_000
    with pytest.raises(app.NotAPhoto, match="1000 are allowed"):
        app.handler(arrived(store, encoded(photo(), "JPEG")), None)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_photos_end_in_thumbnails_or_in_a_clear_error(app: ModuleType, store: ObjectStore, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    whole = encoded(photo(64, 48), kind, exif=exif.tobytes())
    chance = random.Random(20_261_122)
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            app.handler(arrived(store, bytes(damaged)), None)
        except app.NotAPhoto:
            continue


@pytest.mark.parametrize("key", ["holiday in Rome/a+b%.jpg", "写真/ひ.png", "line\nbreak.jpg"])
def test_keys_are_decoded_as_s3_encodes_them(app: ModuleType, store: ObjectStore, key: str) -> None:
    result = app.handler(arrived(store, encoded(photo(), "JPEG"), key), None)
    assert result["thumbnails"][0] == f"{key}/web.jpg"


def test_the_longest_keys_get_thumbnails_under_keys_that_s3_allows(app: ModuleType, store: ObjectStore) -> None:
    keys = [app.thumbnail_key("é" * 511 + end, "web") for end in ("a", "b")]
    assert len(set(keys)) == 2
    assert all(len(key.encode()) <= 1024 for key in keys)


def test_two_photos_that_differ_in_their_ending_alone_keep_apart(app: ModuleType) -> None:
    assert app.thumbnail_key("a.png", "web") != app.thumbnail_key("a.jpg", "web")


def test_the_handler_has_no_endpoint_and_no_key_in_it() -> None:
    source = SOURCE.read_text()
    assert "endpoint" not in source
    assert "aws_" not in source
    assert "okiba" not in source.lower().replace("nothing in it that knows of okiba", "")
    assert os.environ.get("AWS_ENDPOINT_URL_S3") is None
